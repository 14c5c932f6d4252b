package terminal

import (
	"fmt"
	"io"
	"sync"
)

// margin is what a live line leaves free at its right: what a terminal echoes of an
// interrupt (^C) must not begin another line.
const margin = 3

// fallbackColumns is the width of a terminal that does not tell its size.
const fallbackColumns = 80

// live is a terminal with a last line that is drawn over again, while other lines go
// above it. It is safe for use by several goroutines. Nothing of the line is left when
// it is replaced, not even when the terminal has become narrower in between and has
// broken it into several.
type live struct {
	screen Screen
	out    io.Writer

	mu     sync.Mutex
	render func(columns int) string // nil: there is no line
	drawn  int                      // columns that the line took
}

// liveOn returns the live terminal that standard error is.
func liveOn(s *Streams) *live {
	if l, ok := s.Stderr.(*live); ok {
		return l
	}
	l := &live{screen: s.Err, out: s.Stderr}
	s.Stderr = l
	return l
}

// Write prints whole lines above the live line.
func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.render == nil {
		return l.out.Write(p)
	}
	if _, err := io.WriteString(l.out, l.erased()+string(p)); err != nil {
		return 0, err
	}
	l.drawn = 0
	if len(p) > 0 && p[len(p)-1] == '\n' {
		l.redraw()
	}
	return len(p), nil
}

// draw replaces the line by what render makes of the columns that it may take, now and
// each time that it is drawn again.
func (l *live) draw(render func(columns int) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.render = render
	l.redraw()
}

// finish replaces the live line by a line that stays.
func (l *live) finish(render func(columns int) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.render = render
	l.redraw()
	l.render, l.drawn = nil, 0
	_, _ = io.WriteString(l.out, "\n")
}

// erase ends the live line and clears it.
func (l *live) erase() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.out, l.erased())
	l.render, l.drawn = nil, 0
}

// abandon ends the live line where it is. The process is about to end, perhaps while
// another goroutine is stuck in a write.
func (l *live) abandon() {
	if !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if l.render != nil {
		_, _ = io.WriteString(l.out, "\n")
	}
	l.render, l.drawn = nil, 0
}

// columns returns how many columns a line may take.
func (l *live) columns() int {
	columns := l.screen.columns()
	if columns == 0 {
		columns = fallbackColumns
	}
	return max(1, columns-margin)
}

// A terminal does not break what is written between these (DECAWM). Some, as tmux, say
// a moment late that they are narrower, and what is drawn in that moment is too long.
const (
	noBreaks = "\x1b[?7l"
	breaks   = "\x1b[?7h"
)

// redraw draws the line over itself in one write, so that it does not flicker. The
// caller holds l.mu.
func (l *live) redraw() {
	text := l.render(l.columns())
	_, _ = io.WriteString(l.out, l.start()+noBreaks+text+"\x1b[K"+breaks)
	l.drawn = columnsOf(text)
}

// start goes to the beginning of the line. Terminals break a line that has become too
// long for them. The caller holds l.mu.
func (l *live) start() string {
	columns := l.screen.columns()
	if columns == 0 || l.drawn <= columns {
		return "\r"
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", (l.drawn-1)/columns)
}

// erased goes to the beginning of the line and clears it. The caller holds l.mu.
func (l *live) erased() string {
	if l.render == nil {
		return ""
	}
	return l.start() + "\x1b[K"
}
