package terminal

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

// A Table is the text form of a result: lines, fields with a name, and tables with
// heads, in the order in which they were added. A cell is one line: line replaces its
// control characters. On a terminal rows are cut to its width and the values of fields are
// broken between words; elsewhere the text is complete.
type Table struct {
	screen Screen
	blocks []rowBlock
}

// rowBlock is consecutive rows of the same kind.
type rowBlock struct {
	kind rowKind
	rows [][]Cell
}

// Cell is a text and its colour, where it has one.
type Cell struct{ Text, colour string }

type rowKind int

const (
	lineRow rowKind = iota
	fieldRow
	tableRow
)

func (t *Table) add(kind rowKind, cells ...Cell) {
	if n := len(t.blocks); n == 0 || t.blocks[n-1].kind != kind {
		t.blocks = append(t.blocks, rowBlock{kind: kind})
	}
	b := &t.blocks[len(t.blocks)-1]
	b.rows = append(b.rows, cells)
}

// Line adds a line.
func (t *Table) Line(format string, args ...any) { t.add(lineRow, Cell{Text: cellText(format, args)}) }

// Text adds the lines of a text.
func (t *Table) Text(s string) {
	for l := range strings.Lines(s) {
		t.Line("%s", strings.TrimSuffix(l, "\n"))
	}
}

// Field adds a name with its value.
func (t *Table) Field(name, format string, args ...any) {
	t.add(fieldRow, Cell{Text: Line(name)}, Cell{Text: cellText(format, args)})
}

// FieldOf is field with a value that may have a colour.
func (t *Table) FieldOf(name string, value Cell) {
	t.add(fieldRow, Cell{Text: Line(name)}, Cell{Line(value.Text), value.colour})
}

// Head begins a table, below a blank line unless the table is the first block.
func (t *Table) Head(names ...string) {
	if len(t.blocks) > 0 {
		t.Line("")
	}
	heads := make([]Cell, len(names))
	for i, name := range names {
		heads[i] = Cell{name, bold}
	}
	t.blocks = append(t.blocks, rowBlock{tableRow, [][]Cell{heads}})
}

// Row adds a row to the last table. Values that are not cells become cells.
func (t *Table) Row(values ...any) {
	cells := make([]Cell, len(values))
	for i, v := range values {
		c, ok := v.(Cell)
		if !ok {
			c.Text = fmt.Sprint(v)
		}
		cells[i] = Cell{Line(c.Text), c.colour}
	}
	t.add(tableRow, cells...)
}

// cellText formats args, which may be texts from outside, for one line.
func cellText(format string, args []any) string { return Line(fmt.Sprintf(format, args...)) }

// writeTo prints the table.
func (t *Table) writeTo(w io.Writer) error {
	var out strings.Builder
	for _, b := range t.blocks {
		switch b.kind {
		case lineRow:
			for _, row := range b.rows {
				out.WriteString(row[0].Text + "\n")
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

func (t *Table) fields(out *strings.Builder, rows [][]Cell) {
	names := columnWidths(rows)[0] + columnGap
	all := t.screen.columns()
	for _, row := range rows {
		name, value := row[0].Text, row[1]
		indent := names
		if all > 0 && names+min(leastValue, columnsOf(value.Text)) > all {
			indent = columnGap
			out.WriteString(name + "\n")
		} else {
			out.WriteString(pad(name, names))
		}
		values := []string{value.Text}
		if all > 0 {
			values = broken(value.Text, max(1, all-indent))
		}
		for i, v := range values {
			if i > 0 || indent != names {
				out.WriteString(strings.Repeat(" ", indent))
			}
			out.WriteString(t.screen.paint(value.colour, v) + "\n")
		}
	}
}

func (t *Table) rows(out *strings.Builder, rows [][]Cell) {
	widths, all := columnWidths(rows), t.screen.columns()
	for _, row := range rows {
		for len(row) > 1 && row[len(row)-1].Text == "" {
			row = row[:len(row)-1]
		}
		text, used := "", 0
		for i, c := range row {
			cut, gap := c.Text, 0
			if i < len(row)-1 {
				gap = widths[i] + columnGap - columnsOf(cut)
			}
			if room := all - used; all > 0 && gap > 0 && columnsOf(cut)+gap >= room { // no room for the next cell
				cut = fit(cut+"…", room)
			} else if all > 0 {
				cut = fit(cut, room)
			}
			text += t.screen.paint(c.colour, cut)
			if cut != c.Text {
				break
			}
			used += columnsOf(cut) + gap
			text += strings.Repeat(" ", gap)
		}
		out.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}

// columnWidths returns the width of each column but the last, which ends its line.
func columnWidths(rows [][]Cell) []int {
	var out []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(out) {
				out = append(out, 0)
			}
			if i < len(row)-1 {
				out[i] = max(out[i], columnsOf(c.Text))
			}
		}
	}
	return out
}
