package cli

import (
	"fmt"
	"io"
	"strings"
)

// leastValue is the least number of columns for the value of a field beside its name. With
// fewer, the value is printed below the name.
const leastValue = 20

// columnGap is the number of blanks between two columns.
const columnGap = 2

// A table is the text form of a result: lines, fields with a name, and tables with
// heads, in the order in which they were added. A cell is one line: line replaces its
// control characters. On a terminal rows are cut to its width and the values of fields are
// broken between words; elsewhere the text is complete.
type table struct {
	screen screen
	blocks []rowBlock
}

// rowBlock is consecutive rows of the same kind.
type rowBlock struct {
	kind rowKind
	rows [][]cell
}

// cell is a text and its colour, where it has one.
type cell struct{ text, colour string }

type rowKind int

const (
	lineRow rowKind = iota
	fieldRow
	tableRow
)

func (t *table) add(kind rowKind, cells ...cell) {
	if n := len(t.blocks); n == 0 || t.blocks[n-1].kind != kind {
		t.blocks = append(t.blocks, rowBlock{kind: kind})
	}
	b := &t.blocks[len(t.blocks)-1]
	b.rows = append(b.rows, cells)
}

// line adds a line.
func (t *table) line(format string, args ...any) { t.add(lineRow, cell{text: cellText(format, args)}) }

// text adds the lines of a text.
func (t *table) text(s string) {
	for l := range strings.Lines(s) {
		t.line("%s", strings.TrimSuffix(l, "\n"))
	}
}

// field adds a name with its value.
func (t *table) field(name, format string, args ...any) {
	t.add(fieldRow, cell{text: line(name)}, cell{text: cellText(format, args)})
}

// fieldOf is field with a value that may have a colour.
func (t *table) fieldOf(name string, value cell) {
	t.add(fieldRow, cell{text: line(name)}, cell{line(value.text), value.colour})
}

// head begins a table, below a blank line unless the table is the first block.
func (t *table) head(names ...string) {
	if len(t.blocks) > 0 {
		t.line("")
	}
	heads := make([]cell, len(names))
	for i, name := range names {
		heads[i] = cell{name, bold}
	}
	t.blocks = append(t.blocks, rowBlock{tableRow, [][]cell{heads}})
}

// row adds a row to the last table. Values that are not cells become cells.
func (t *table) row(values ...any) {
	cells := make([]cell, len(values))
	for i, v := range values {
		c, ok := v.(cell)
		if !ok {
			c.text = fmt.Sprint(v)
		}
		cells[i] = cell{line(c.text), c.colour}
	}
	t.add(tableRow, cells...)
}

// cellText formats args, which may be texts from outside, for one line.
func cellText(format string, args []any) string { return line(fmt.Sprintf(format, args...)) }

// writeTo prints the table.
func (t *table) writeTo(w io.Writer) error {
	var out strings.Builder
	for _, b := range t.blocks {
		switch b.kind {
		case lineRow:
			for _, row := range b.rows {
				out.WriteString(row[0].text + "\n")
			}
		case fieldRow:
			t.fields(&out, b.rows)
		case tableRow:
			t.rows(&out, b.rows)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (t *table) fields(out *strings.Builder, rows [][]cell) {
	names := columnWidths(rows)[0] + columnGap
	all := t.screen.columns()
	for _, row := range rows {
		name, value := row[0].text, row[1]
		indent := names
		if all > 0 && names+min(leastValue, columnsOf(value.text)) > all {
			indent = columnGap
			out.WriteString(name + "\n")
		} else {
			out.WriteString(pad(name, names))
		}
		values := []string{value.text}
		if all > 0 {
			values = broken(value.text, max(1, all-indent))
		}
		for i, v := range values {
			if i > 0 || indent != names {
				out.WriteString(strings.Repeat(" ", indent))
			}
			out.WriteString(t.screen.paint(value.colour, v) + "\n")
		}
	}
}

func (t *table) rows(out *strings.Builder, rows [][]cell) {
	widths, all := columnWidths(rows), t.screen.columns()
	for _, row := range rows {
		for len(row) > 1 && row[len(row)-1].text == "" {
			row = row[:len(row)-1]
		}
		text, used := "", 0
		for i, c := range row {
			shown, gap := c.text, 0
			if i < len(row)-1 {
				gap = widths[i] + columnGap - columnsOf(shown)
			}
			if room := all - used; all > 0 && gap > 0 && columnsOf(shown)+gap >= room { // no room for the next cell
				shown = fit(shown+"…", room)
			} else if all > 0 {
				shown = fit(shown, room)
			}
			text += t.screen.paint(c.colour, shown)
			if shown != c.text {
				break
			}
			used += columnsOf(shown) + gap
			text += strings.Repeat(" ", gap)
		}
		out.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}

// columnWidths returns the width of each column but the last, which ends its line.
func columnWidths(rows [][]cell) []int {
	var out []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(out) {
				out = append(out, 0)
			}
			if i < len(row)-1 {
				out[i] = max(out[i], columnsOf(c.text))
			}
		}
	}
	return out
}
