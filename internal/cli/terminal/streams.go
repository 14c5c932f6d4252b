// Package terminal prints what commands have to say: results as text, JSON or YAML, the
// progress of an operation, and errors. It knows the width and the colours of a terminal,
// and replaces the characters that a terminal would act on. It knows no command.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// Streams are the output streams of a command, and how its user wants the texts on them.
// Tests replace the writers and the clock.
type Streams struct {
	Stdout, Stderr io.Writer
	Out, Err       Screen // of stdout and of stderr
	Now            func() time.Time
	Verbosity      Verbosity
	Output         Format
	Quiet          bool // neither progress nor success messages are printed

	host *HostOutput // nil, unless these are the streams of one of several hosts
}

// NewStreams returns the streams of this process.
func NewStreams() Streams {
	s := Streams{Stdout: os.Stdout, Stderr: os.Stderr, Out: screenOf(os.Stdout), Err: screenOf(os.Stderr), Now: time.Now}
	if s.Err.terminal {
		liveOn(&s)
	}
	return s
}

// Abandon ends the line of progress where it is. The process is about to end, perhaps while
// another goroutine is stuck in a write.
func (s *Streams) Abandon() {
	if l, ok := s.Stderr.(*live); ok {
		l.abandon()
	}
}

// Say prints a message about success to standard error, unless --quiet is given.
func (s *Streams) Say(format string, args ...any) {
	if !s.Quiet {
		fmt.Fprintln(s.Stderr, Line(fmt.Sprintf(format, args...)))
	}
}

// KeepForEvents has progress printed as lines where events go to the same terminal.
func (s *Streams) KeepForEvents() { s.Err.terminal = s.Err.terminal && !s.Out.terminal }

// PrintEvent prints an event of an operation as one line of JSON.
func (s *Streams) PrintEvent(e *client.Event) error {
	if s.host != nil {
		return s.host.printEvent(e)
	}
	text, err := encode(e, "")
	if err != nil {
		return err
	}
	_, err = s.Stdout.Write(text)
	return err
}

// Failure is the form of an error for programs. docs/cli.md documents it.
type Failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// PrintFailure prints an error and its hint in the output format of the command: as two
// messages, as one line of JSON, which is the last line of standard error, or as a document
// of YAML.
func (s *Streams) PrintFailure(f Failure) {
	if s.Output.String() == "text" {
		s.printMessage(red, "trident:", f.Message)
		if f.Hint != "" {
			s.printMessage(cyan, "hint:", f.Hint)
		}
		return
	}
	f.Message = strings.ToValidUTF8(f.Message, "\uFFFD")
	out, _ := encode(f, "") // three strings in memory
	if s.Output == "yaml" {
		if doc, err := yamlOf(out); err == nil {
			out = append([]byte("---\n"), doc...)
		}
	}
	_, _ = s.Stderr.Write(out)
}

// printMessage prints a text behind a word. A terminal gets lines that are broken between
// words, and all but the first are indented. A command at the end of the text is a line of
// its own that is not broken, so that people can copy it from the screen.
func (s *Streams) printMessage(colour, word, text string) {
	const indent = "  "
	columns := max(0, s.Err.columns()-len(indent))
	for i, paragraph := range paragraphs(text) {
		if i == 0 {
			paragraph = word + " " + paragraph
		}
		rows := broken(paragraph, columns)
		if at := strings.LastIndex(paragraph, ": "); len(rows) > 1 && at >= len(word) && isCommand(paragraph[at+2:]) {
			rows = append(broken(paragraph[:at+1], columns), paragraph[at+2:])
		}
		for j, l := range rows {
			if i+j > 0 {
				l = indent + l
			} else if rest, ok := strings.CutPrefix(l, word); ok {
				l = s.Err.paint(colour, word) + rest
			}
			fmt.Fprintln(s.Stderr, l)
		}
	}
}

// isCommand reports whether the end of a hint is a command line: it begins with a program
// and is not a sentence.
func isCommand(text string) bool {
	program, _, _ := strings.Cut(text, " ")
	switch program {
	case "trident", "sudo", "openssl", "systemctl", "journalctl", "findmnt", "mkfs.erofs":
		return !strings.HasSuffix(text, ".")
	}
	return false
}
