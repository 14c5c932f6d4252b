package terminal

import (
	"regexp"
	"strings"
)

// FitHelp breaks a help page between words where standard output is narrower than the page.
func (s *Streams) FitHelp(text string) string { return breakHelp(text, s.Out.columns()) }

// helpItem is a flag, a command or another word up to its description.
var helpItem = regexp.MustCompile(`^ *[^ ].*?  +`)

// breakHelp breaks the lines of a help page that have more columns. A paragraph with such a
// line is filled anew, a description goes on below its beginning, and an example goes on as
// a shell reads it.
func breakHelp(text string, columns int) string {
	if columns < 1 {
		return text
	}
	var out []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i
		var rows []string
		if isProse(lines[i]) {
			for i < len(lines)-1 && isProse(lines[i+1]) {
				i++
			}
			if rows = lines[first : i+1]; widest(rows) > columns {
				rows = broken(strings.Join(rows, " "), columns)
			}
			out = append(out, rows...)
			continue
		}
		for i < len(lines)-1 && strings.HasSuffix(lines[i], "\\") {
			i++
		}
		head := helpItem.FindString(lines[i])
		switch rows = lines[first : i+1]; {
		case widest(rows) <= columns:
		case head == "" || i > first:
			rows = breakExample(strings.ReplaceAll(strings.Join(rows, " "), "\\ ", " "), columns)
		default:
			rows = breakItem(head, lines[i][len(head):], columns)
		}
		out = append(out, rows...)
	}
	return strings.Join(out, "\n")
}

// isProse reports whether a line of a help page is part of a paragraph.
func isProse(l string) bool { return l != "" && l[0] != ' ' && !helpItem.MatchString(l) }

// breakItem breaks the description of an item, below its name where it does not fit beside.
func breakItem(head, description string, columns int) []string {
	indent := len(head)
	rows := broken(description, max(1, columns-indent))
	if indent+max(leastValue, widest(rows)) > columns {
		indent = 8
		rows = append([]string{""}, broken(description, columns-indent)...)
	}
	for i := range rows {
		if i > 0 {
			rows[i] = strings.Repeat(" ", indent) + rows[i]
		}
	}
	rows[0] = strings.TrimRight(head+rows[0], " ")
	return rows
}

// breakExample breaks a command line.
func breakExample(l string, columns int) []string {
	rows := broken(l, columns-len("    ")-len(" \\"))
	for i := range rows {
		if rows[i] = "    " + rows[i]; i < len(rows)-1 {
			rows[i] += " \\"
		}
	}
	rows[0] = rows[0][2:]
	return rows
}

// widest returns the columns of the longest line.
func widest(lines []string) int {
	most := 0
	for _, l := range lines {
		most = max(most, columnsOf(l))
	}
	return most
}
