package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/proto/client"
)

// A Board shows a command that runs on several hosts at the same time. Progress goes to
// standard error as it happens: on a terminal one line for each host that is redrawn, and
// messages above these lines; elsewhere lines with the name of the host in front. Results are
// kept, and Print prints them together.
type Board struct {
	to    *Streams
	live  *live // nil: there is no terminal
	hosts []*HostOutput

	mu     sync.Mutex // of all that is below, of the lines of hosts, and of standard output
	latest time.Time  // of the last drawing
}

// HostOutput is what the command has said about one host.
type HostOutput struct {
	board *Board
	name  string

	render  func(columns int) string // nil: nothing is shown of the host
	partial []byte                   // of a line of standard error

	raw    bytes.Buffer // what the command wrote to standard output
	tables []*Table
	values []json.RawMessage
}

// A HostFailure is the error of one host, for programs.
type HostFailure struct {
	Failure
	// Retriable says that the same command may succeed later without any other change.
	Retriable bool `json:"retriable"`
}

// NewBoard returns a board for these hosts. The caller must not use s until Close.
func (s *Streams) NewBoard(names []string) *Board {
	b := &Board{to: s}
	if s.Err.terminal && !s.Quiet {
		b.live = liveOn(s)
	}
	for _, name := range names {
		b.hosts = append(b.hosts, &HostOutput{board: b, name: Line(name)})
	}
	return b
}

// Streams returns the streams of the command on the host with that index.
func (b *Board) Streams(index int) Streams {
	s, host := *b.to, b.hosts[index]
	s.host, s.Stdout, s.Stderr = host, &host.raw, prefixed{host}
	return s
}

// Ended removes the line of a host, and prints how it ended unless that is "".
func (b *Board) Ended(index int, how string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	host := b.hosts[index]
	if len(host.partial) > 0 {
		host.line(string(host.partial))
		host.partial = nil
	}
	if host.render == nil {
		return
	}
	host.render = nil
	if how != "" && !b.to.Quiet {
		host.line(how)
	}
	b.redraw()
}

// Close removes the lines of hosts from the terminal.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, host := range b.hosts {
		host.render = nil
	}
	b.redraw()
}

// prefixed is the standard error of a host: each line has the name of the host in front.
type prefixed struct{ host *HostOutput }

func (p prefixed) Write(text []byte) (int, error) {
	b := p.host.board
	b.mu.Lock()
	defer b.mu.Unlock()
	p.host.partial = append(p.host.partial, text...)
	for {
		line, rest, ok := bytes.Cut(p.host.partial, []byte("\n"))
		if !ok {
			return len(text), nil
		}
		p.host.line(string(line))
		p.host.partial = rest
	}
}

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

// show keeps a result of the command on the host.
func (h *HostOutput) show(value any, t *Table) error {
	raw, err := encode(value, "")
	if err != nil && h.board.to.Output.String() != "text" {
		return fmt.Errorf("print result: %w", err)
	}
	h.tables, h.values = append(h.tables, t), append(h.values, raw)
	return nil
}

// printEvent prints an event with the name of its host, at once.
func (h *HostOutput) printEvent(e *client.Event) error {
	raw, err := RawMessage(e)
	if err != nil {
		return err
	}
	text, err := encode(struct {
		Host  string          `json:"host"`
		Event json.RawMessage `json:"event"`
	}{h.name, raw}, "")
	if err != nil {
		return err
	}
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	_, err = h.board.to.Stdout.Write(text)
	return err
}

// hostResult is the form of the result of one host for programs. docs/cli.md documents it.
type hostResult struct {
	Host   string          `json:"host"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *HostFailure    `json:"error,omitempty"`
}

// Print prints the results of all hosts. failures has one entry for each host: nil, or its
// error, which only the formats for programs have.
func (b *Board) Print(failures []*HostFailure) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to.Output.String() == "text" {
		return b.printText()
	}
	all := make([]hostResult, len(b.hosts))
	for i, h := range b.hosts {
		result, err := h.result()
		if err != nil {
			return fmt.Errorf("print the result of %s: %w", h.name, err)
		}
		all[i] = hostResult{h.name, result, failures[i]}
	}
	return b.to.Show(all, nil)
}

// result returns what the command has printed about the host as JSON; nil for nothing.
func (h *HostOutput) result() (json.RawMessage, error) {
	values := slices.Clone(h.values)
	if h.raw.Len() > 0 {
		var value any
		if err := yaml.Unmarshal(h.raw.Bytes(), &value); err != nil { // JSON is YAML
			value = h.raw.String()
		}
		raw, err := encode(value, "")
		if err != nil {
			return nil, err
		}
		values = append(values, raw)
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return encode(values, "")
}

// printText prints the texts of all hosts: tables as one table, fields as a row for each host,
// a line or two as a row, and longer texts below the names of their hosts.
func (b *Board) printText() error {
	out := &Table{screen: b.to.Out}
	m := merge{out: out, heads: map[string]*merged{}}
	for _, h := range b.hosts {
		m.add(h)
	}
	m.write()
	if err := out.writeTo(b.to.Stdout); err != nil {
		return err
	}
	for _, l := range m.long {
		// The separator of YAML documents, with a comment: the whole is YAML if the texts are.
		if _, err := fmt.Fprintf(b.to.Stdout, "--- # %s\n%s", l.host, l.text); err != nil {
			return err
		}
	}
	return nil
}
