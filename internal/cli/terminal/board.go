package terminal

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
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
