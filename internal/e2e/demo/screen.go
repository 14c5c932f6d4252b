package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// screen is the output of the demo. Several goroutines may write lines to it.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	bold     func(string) string
	chapters int
}

func newScreen(out *os.File) *screen {
	s := &screen{out: out, bold: func(text string) string { return text }}
	if term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == "" {
		s.bold = func(text string) string { return "\x1b[1m" + text + "\x1b[0m" }
	}
	return s
}

func (s *screen) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.out, text) // nobody looks any more
}

// chapter begins a chapter, and prints what it shows.
func (s *screen) chapter(title, about string) {
	s.chapters++
	if about != "" {
		about += "\n\n"
	}
	s.write("\n" + s.bold(fmt.Sprintf("%d. %s", s.chapters, title)) + "\n" + about)
}

func (s *screen) text(format string, args ...any) { s.write(fmt.Sprintf(format, args...) + "\n") }

// command prints a typed command after a prompt.
func (s *screen) command(prompt, line string) { s.write(prompt + " " + s.bold(line) + "\n") }

// row is a line of the table at the end of the demo.
type row struct {
	what, end string
	took      time.Duration
}

func (s *screen) table(rows []row) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WHAT WAS DONE\tTOOK\tHOW IT ENDED")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, seconds(r.took), r.end)
	}
	_ = w.Flush() // into memory
	s.write(b.String())
}

// seconds formats a time for the screen.
func seconds(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
}

// size formats a number of bytes for the screen.
func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
