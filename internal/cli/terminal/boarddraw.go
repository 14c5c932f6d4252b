package terminal

import (
	"fmt"
	"io"
	"strings"
)

// line prints a line about the host. The caller holds the lock of the board.
func (h *HostOutput) line(text string) {
	_, _ = io.WriteString(h.board.to.Stderr, h.name+": "+text+"\n")
}

// draw implements liveLine.
func (h *HostOutput) draw(render func(columns int) string) {
	b := h.board
	b.mu.Lock()
	defer b.mu.Unlock()
	h.render = render
	// Each host draws every frameEvery; so none waits for longer than two frames.
	if now := b.to.Now(); now.Sub(b.latest) >= frameEvery {
		b.latest = now
		b.redraw()
	}
}

// finish implements liveLine. The line stays until the next step draws its own.
func (h *HostOutput) finish(render func(columns int) string) { h.draw(render) }

// erase implements liveLine.
func (h *HostOutput) erase() { h.draw(func(int) string { return "" }) }

// redraw draws the lines of all hosts. The caller holds b.mu.
func (b *Board) redraw() {
	if b.live == nil {
		return
	}
	var shown []*HostOutput
	for _, h := range b.hosts {
		if h.render != nil {
			shown = append(shown, h)
		}
	}
	if len(shown) == 0 {
		b.live.erase()
		return
	}
	most := fallbackRows
	if b.to.Err.rows != nil && b.to.Err.rows() > 0 {
		most = b.to.Err.rows()
	}
	most = max(1, most-2) // of the row of the cursor, and of one message above
	more := 0
	if len(shown) > most {
		more = len(shown) - most + 1
		shown = shown[:most-1]
	}
	renders := make([]func(int) string, len(shown))
	for i, h := range shown {
		renders[i] = h.render
	}
	b.live.draw(func(columns int) string { return hostLines(columns, shown, renders, more) })
}

// fallbackRows is the assumed height of a terminal that does not report its size.
const fallbackRows = 24

// hostLines returns the lines of hosts, and one about those that have no place.
func hostLines(columns int, hosts []*HostOutput, renders []func(int) string, more int) string {
	names := 0
	for _, h := range hosts {
		names = max(names, columnsOf(h.name))
	}
	names = min(names, max(4, columns/3))
	var lines []string
	for i, h := range hosts {
		lines = append(lines, pad(fit(h.name, names), names)+"  "+renders[i](max(1, columns-names-2)))
	}
	if more > 0 {
		lines = append(lines, fit(fmt.Sprintf("and %d more hosts", more), columns))
	}
	return strings.Join(lines, "\n")
}
