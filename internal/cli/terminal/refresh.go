package terminal

import (
	"fmt"
	"io"
	"strings"
)

// Refresh prints a result that replaces the previous one of the same command. On a terminal it
// begins at the first line and is cut to the height. Elsewhere results follow each other: texts
// with a blank line behind, JSON with one line each, YAML with a document each.
func (s *Streams) Refresh(value any, text func(*Table)) error {
	var out strings.Builder
	switch s.Output.String() {
	case "text":
		t := &Table{screen: s.tableScreen()}
		text(t)
		if err := t.writeTo(&out); err != nil {
			return err
		}
	case "json":
		raw, err := encode(value, "")
		if err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		out.Write(raw)
	default:
		raw, err := Marshal(value)
		if err == nil {
			raw, err = yamlOf(raw)
		}
		if err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		out.WriteString("---\n")
		out.Write(raw)
	}
	shown := out.String()
	if s.Output.String() == "text" {
		shown = s.page(shown)
	}
	_, err := io.WriteString(s.Stdout, shown)
	return err
}

// page returns a text with the control characters that show it from the first line of the
// terminal on (ECMA-48, 8.3.21, 8.3.39 and 8.3.41), without flicker; without a terminal the
// text and a blank line.
func (s *Streams) page(text string) string {
	if !s.Out.terminal {
		return text + "\n"
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	rows := fallbackRows
	if s.Out.rows != nil && s.Out.rows() > 0 {
		rows = s.Out.rows()
	}
	lines = lines[:min(len(lines), max(1, rows-1))] // the cursor has the last row
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\n\x1b[J"
}
