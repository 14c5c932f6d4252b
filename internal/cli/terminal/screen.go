package terminal

import (
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// A Screen is the terminal behind a stream: its width, and whether it has colours. The zero
// value is a stream that is not a terminal.
type Screen struct {
	terminal bool // a line can be redrawn in place
	colour   bool
	// Size returns the columns of the terminal, which may change at any time; 0 if the
	// stream is not a terminal, or the width is not known.
	Size func() int
	// rows returns the lines of the terminal; nil, or 0, if that is not known.
	rows func() int
}

// screenOf returns the screen of a stream of this process. Colours are off where
// the user has turned them off: NO_COLOR (no-color.org), CLICOLOR=0, TERM=dumb.
func screenOf(f *os.File) Screen {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return Screen{}
	}
	s := Screen{terminal: os.Getenv("TERM") != "dumb"}
	s.colour = s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("CLICOLOR") != "0"
	s.Size = func() int {
		width, _, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return width
	}
	s.rows = func() int {
		_, height, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return height
	}
	return s
}

// IsInput reports whether an input is a terminal, so that a person can answer a question.
func IsInput(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columns returns the width of the screen; 0 is no limit.
func (s Screen) columns() int {
	if s.Size == nil {
		return 0
	}
	return max(0, s.Size())
}

// The colours of trident, as parameters of SGR (ECMA-48, 8.3.117).
const (
	bold   = "1"
	red    = "31"
	yellow = "33"
	cyan   = "36"
)

// paint returns text in a colour, on screens that have colours.
func (s Screen) paint(colour, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// columnsOf returns how many columns a terminal shows text in: two for each wide
// character, none for marks that combine and for colours.
func columnsOf(text string) int {
	sum := 0
	for text != "" {
		before, rest, coloured := strings.Cut(text, "\x1b[")
		sum += uniseg.StringWidth(before)
		if text = rest; coloured {
			_, text, _ = strings.Cut(rest, "m")
		}
	}
	return sum
}

// fit cuts text, which has no colours, to so many columns. An ellipsis replaces the end.
func fit(text string, columns int) string {
	if columns < 1 || columnsOf(text) <= columns {
		return text
	}
	kept, used, state := 0, 0, -1
	for rest := text; rest != ""; {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if used+w > columns-1 {
			break
		}
		kept, used = kept+len(cluster), used+w
	}
	return text[:kept] + "…"
}

// pad returns text with blanks behind it, up to so many columns.
func pad(text string, columns int) string {
	return text + strings.Repeat(" ", max(0, columns-columnsOf(text)))
}

// broken breaks text between words into lines of at most so many columns. A word stays
// whole, however long it is: people copy paths and digests.
func broken(text string, columns int) []string {
	if columns < 1 || columnsOf(text) <= columns {
		return []string{text}
	}
	var lines []string
	at := ""
	for _, word := range strings.Fields(text) {
		if at != "" && columnsOf(at)+1+columnsOf(word) > columns {
			lines, at = append(lines, at), ""
		}
		if at != "" {
			at += " "
		}
		at += word
	}
	return append(lines, at)
}

// Line returns a text from outside as one line without control characters, which could move
// the cursor or fake other lines, and without invisible characters, which could hide or
// reorder a part of the line.
func Line(s string) string {
	return strings.ReplaceAll(Lines(s), "\n", " ")
}

// Lines is line for a text that may have several.
func Lines(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\n':
			return r
		case r >= 0xfe00 && r <= 0xfe0f: // variation selectors: terminals disagree on their width
			return -1
		case isInvisible(r):
			return '?'
		}
		return r
	}, s)
}

// isInvisible reports whether r is a character that moves the cursor, breaks lines,
// changes the direction of a text, or cannot be seen.
func isInvisible(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// paragraphs returns the text of an error as one line, or, where its first line announces
// a list ("3 faults:"), that line and one line for each entry of the list.
func paragraphs(s string) []string {
	var parts []string
	for part := range strings.Lines(s) {
		if part = strings.TrimSpace(Line(part)); part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) > 1 && strings.HasSuffix(parts[0], ":") {
		return parts
	}
	return []string{strings.Join(parts, "; ")}
}
