package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// streams are the output streams of a command, and how its user wants the texts on them.
// Tests replace the writers and the clock.
type streams struct {
	stdout, stderr io.Writer
	out, err       screen // of stdout and of stderr
	now            func() time.Time
	verbosity      verbosity
	output         format
	quiet          bool // neither progress nor success messages are printed
}

// newStreams returns the streams of this process.
func newStreams() streams {
	s := streams{stdout: os.Stdout, stderr: os.Stderr, out: screenOf(os.Stdout), err: screenOf(os.Stderr), now: time.Now}
	if s.err.terminal {
		liveOn(&s)
	}
	return s
}

// abandon ends the line of progress where it is. The process is about to end, perhaps while
// another goroutine is stuck in a write.
func (s *streams) abandon() {
	if l, ok := s.stderr.(*live); ok {
		l.abandon()
	}
}

// say prints a message about success to standard error, unless --quiet is given.
func (s *streams) say(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintln(s.stderr, line(fmt.Sprintf(format, args...)))
	}
}

// keepForEvents has progress printed as lines where events go to the same terminal.
func (s *streams) keepForEvents() { s.err.terminal = s.err.terminal && !s.out.terminal }

// printEvent prints an event of an operation as one line of JSON.
func (s *streams) printEvent(e *client.Event) error {
	text, err := encode(e, "")
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(text)
	return err
}

// failure is the form of an error for programs. docs/cli.md documents it.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// printFailure prints an error and its hint in the output format of the command: as two
// messages, as one line of JSON, which is the last line of standard error, or as a document
// of YAML.
func (s *streams) printFailure(f failure) {
	if s.output.String() == "text" {
		s.printMessage(red, "trident:", f.Message)
		if f.Hint != "" {
			s.printMessage(cyan, "hint:", f.Hint)
		}
		return
	}
	f.Message = strings.ToValidUTF8(f.Message, "\uFFFD")
	out, _ := encode(f, "") // three strings in memory
	if s.output == "yaml" {
		if doc, err := yamlOf(out); err == nil {
			out = append([]byte("---\n"), doc...)
		}
	}
	_, _ = s.stderr.Write(out)
}

// printMessage prints a text behind a word. A terminal gets lines that are broken between
// words, and all but the first are indented. A command at the end of the text is a line of
// its own that is not broken, so that people can copy it from the screen.
func (s *streams) printMessage(colour, word, text string) {
	const indent = "  "
	columns := max(0, s.err.columns()-len(indent))
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
				l = s.err.paint(colour, word) + rest
			}
			fmt.Fprintln(s.stderr, l)
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
