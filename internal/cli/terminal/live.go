package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// margin is the number of columns that a live line does not use at its right end, so that
// the echo of an interrupt (^C) fits there and does not begin another line.
const margin = 3

// fallbackColumns is the assumed width of a terminal that does not report its size.
const fallbackColumns = 80

// live is a terminal whose last line, or last lines, are redrawn in place, while Write prints
// other lines above them. Several goroutines may use it. A redraw removes the whole previous
// lines, even if the terminal has become narrower and has broken a line into several.
type live struct {
	screen Screen
	out    io.Writer

	mu     sync.Mutex
	render func(columns int) string // nil without a live line; its text may have several lines
	drawn  []int                    // the columns of each line as it was drawn last
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
	l.drawn = nil
	if len(p) > 0 && p[len(p)-1] == '\n' {
		l.redraw()
	}
	return len(p), nil
}

// draw replaces the live line by the text that render returns for the available columns. live
// calls render for each redraw.
func (l *live) draw(render func(columns int) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.render = render
	l.redraw()
}

// finish replaces the live line by a permanent line.
func (l *live) finish(render func(columns int) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.render = render
	l.redraw()
	l.render, l.drawn = nil, nil
	_, _ = io.WriteString(l.out, "\n")
}

// erase ends the live line and clears it.
func (l *live) erase() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.out, l.erased())
	l.render, l.drawn = nil, nil
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
	l.render, l.drawn = nil, nil
}

// columns returns the number of columns that a line may use.
func (l *live) columns() int {
	columns := l.screen.columns()
	if columns == 0 {
		columns = fallbackColumns
	}
	return max(1, columns-margin)
}

// Between noBreaks and breaks a terminal cuts long lines instead of breaking them (DECAWM).
// Some terminals, tmux for one, report a smaller width late, and a line that was drawn
// meanwhile is too long.
const (
	noBreaks = "\x1b[?7l"
	breaks   = "\x1b[?7h"
)

// redraw draws the live lines over the previous ones, in one write, so that they do not
// flicker. The caller holds l.mu.
func (l *live) redraw() {
	lines := strings.Split(l.render(l.columns()), "\n")
	text := l.start()
	drawn := make([]int, len(lines))
	for i, line := range lines {
		if i > 0 {
			text += "\r\n"
		}
		text += noBreaks + line + "\x1b[K" + breaks
		drawn[i] = columnsOf(line)
	}
	if len(lines) < len(l.drawn) {
		text += "\x1b[J"
	}
	_, _ = io.WriteString(l.out, text)
	l.drawn = drawn
}

// start returns the control characters that move the cursor to the beginning of the first
// live line. A terminal that became narrower has broken lines into several rows. The caller
// holds l.mu.
func (l *live) start() string {
	columns := l.screen.columns()
	up, isBroken := max(0, len(l.drawn)-1), false
	for _, drawn := range l.drawn {
		if columns > 0 && drawn > columns {
			up += (drawn - 1) / columns
			isBroken = true
		}
	}
	switch {
	case isBroken:
		return fmt.Sprintf("\r\x1b[%dA\x1b[J", up)
	case up > 0:
		return fmt.Sprintf("\r\x1b[%dA", up)
	}
	return "\r"
}

// erased returns the control characters that clear the live line, "" without one. The caller
// holds l.mu.
func (l *live) erased() string {
	if l.render == nil {
		return ""
	}
	if len(l.drawn) > 1 {
		return l.start() + "\x1b[J"
	}
	return l.start() + "\x1b[K"
}
