package terminal

import (
	"cmp"
	"strings"
)

// shortText is the most lines of a text that become one row of a table of hosts.
const shortText = 2

// merge makes tables of the tables of several hosts. Each has the column HOST in front.
type merge struct {
	out    *Table
	fields merged // one row for each host; its columns are the names of fields
	lines  merged // one row for each host, with a text of few lines
	heads  map[string]*merged
	order  []*merged // the values of heads, as they came
	long   []hostText
}

// merged is one table of hosts.
type merged struct {
	head []string
	rows [][]Cell
}

type hostText struct{ host, text string }

// add adds what a command has printed about a host.
func (m *merge) add(h *HostOutput) {
	values := map[string]Cell{}
	var lines []string
	hasTable := false
	for _, t := range h.tables {
		for _, b := range t.blocks {
			switch b.kind {
			case lineRow:
				for _, row := range b.rows {
					lines = append(lines, row[0].Text)
				}
			case fieldRow:
				m.addFields(values, b.rows)
			case tableRow:
				hasTable = true
				m.addTable(h.name, b.rows)
			}
		}
	}
	if len(values) > 0 {
		row := []Cell{{Text: h.name}}
		for _, name := range m.fields.head {
			row = append(row, values[name])
		}
		m.fields.rows = append(m.fields.rows, row)
	}
	if hasTable || len(values) > 0 { // blank lines separate tables
		lines = withoutBlank(lines)
	}
	text := h.raw.String()
	switch filled := withoutBlank(lines); {
	case len(filled) > shortText:
		text = strings.Join(lines, "\n") + "\n" + text
	case len(filled) > 0:
		m.lines.rows = append(m.lines.rows, []Cell{{Text: h.name}, {Text: strings.Join(filled, ", ")}})
	}
	if text != "" {
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		m.long = append(m.long, hostText{h.name, text})
	}
}

func withoutBlank(lines []string) (out []string) {
	for _, l := range lines {
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}

// addFields adds the fields of a host to values. A name that comes twice has both values.
func (m *merge) addFields(values map[string]Cell, rows [][]Cell) {
	for _, row := range rows {
		name, value := row[0].Text, row[1]
		if before, ok := values[name]; ok {
			value = Cell{before.Text + "; " + value.Text, cmp.Or(before.colour, value.colour)}
		}
		values[name] = value
		known := false
		for _, h := range m.fields.head {
			known = known || h == name
		}
		if !known {
			m.fields.head = append(m.fields.head, name)
		}
	}
}

// addTable adds the rows of a table of a host, whose first row is the head.
func (m *merge) addTable(host string, rows [][]Cell) {
	var head []string
	for _, c := range rows[0] {
		head = append(head, c.Text)
	}
	key := strings.Join(head, "\t")
	t := m.heads[key]
	if t == nil {
		t = &merged{head: head}
		m.heads[key], m.order = t, append(m.order, t)
	}
	for _, row := range rows[1:] {
		t.rows = append(t.rows, append([]Cell{{Text: host}}, row...))
	}
}

// write writes the tables.
func (m *merge) write() {
	for i, h := range m.fields.head {
		m.fields.head[i] = strings.ToUpper(h)
	}
	for _, t := range append([]*merged{&m.lines, &m.fields}, m.order...) {
		if len(t.rows) == 0 && len(t.head) == 0 {
			continue
		}
		if len(t.head) > 0 {
			m.out.Head(append([]string{"HOST"}, t.head...)...)
		}
		for _, row := range t.rows {
			for len(row) < len(t.head)+1 { // a field that only later hosts have
				row = append(row, Cell{})
			}
			m.out.add(tableRow, row...)
		}
	}
}
