// Command pictures draws the pictures of the documentation: from each text file *.txt
// in a folder, an SVG image of the same name beside it.
//
// A text file has one directive a line; a line that begins with # is a comment.
//
//	title TEXT                what the picture shows, for people who do not see it
//	lane ID TEXT              an actor: a column of the picture, from left to right
//	ID: TEXT                  what an actor does
//	ID > ID: TEXT             what an actor asks or tells another one
//	--- TEXT                  a line across all lanes
//	bands FILE                instead of lanes: the table of bands and packages in a page
//
// Usage: pictures FOLDER
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: pictures FOLDER")
	}
	names, err := filepath.Glob(filepath.Join(args[0], "*.txt"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		svg, err := draw(string(text), os.ReadFile)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(strings.TrimSuffix(name, ".txt")+".svg", svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// draw returns the SVG image of a text. read reads the file that the text names.
func draw(text string, read func(name string) ([]byte, error)) ([]byte, error) {
	s := sequence{lanes: map[string]int{}}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		var err error
		switch word {
		case "title":
			s.title = rest
		case "lane":
			err = s.addLane(rest)
		case "---":
			s.rows = append(s.rows, row{from: -1, to: -1, text: rest})
		case "bands":
			var page []byte
			if page, err = read(rest); err == nil {
				return drawBands(s.title, string(page))
			}
		default:
			err = s.addRow(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if len(s.names) == 0 {
		return nil, fmt.Errorf("it has neither lanes nor bands")
	}
	return s.draw(), nil
}

// Sizes of a picture, in pixels. The width of a letter is an estimate for a sans-serif
// font of 13 pixels; all texts have room to spare.
const (
	margin     = 16
	lineHeight = 17
	letter     = 7.2
)

// wrap breaks a text into lines that fit into a width.
func wrap(text string, width int) []string {
	most := max(1, int(float64(width)/letter))
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= most:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// canvas collects the elements of an SVG image.
type canvas struct{ b bytes.Buffer }

// finish returns the image, on paper of its own so that it can be read on any page.
func (c *canvas) finish(title string, width, height int) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&out, "<title>%s</title>\n", escaper.Replace(title))
	fmt.Fprintf(&out, `<rect width="%d" height="%d" rx="8" fill="#ffffff"/>`+"\n", width, height)
	out.Write(c.b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (c *canvas) rect(x, y, w, h int, fill, stroke string) {
	fmt.Fprintf(&c.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="%s"/>`+"\n", x, y, w, h, fill, stroke)
}

func (c *canvas) line(x1, y1, x2, y2 int, stroke, dash string) {
	fmt.Fprintf(&c.b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-dasharray="%s"/>`+"\n", x1, y1, x2, y2, stroke, dash)
}

// arrow draws a horizontal arrow.
func (c *canvas) arrow(from, to, y int) {
	back := 7
	if to < from {
		back = -7
	}
	c.line(from, y, to, y, ink, "none")
	fmt.Fprintf(&c.b, `<path d="M%d %d l%d -4 v8 z" fill="%s"/>`+"\n", to, y, -back, ink)
}

// text writes lines from top down; anchor is start, middle or end.
func (c *canvas) text(x, top int, anchor, weight string, lines []string) {
	for i, line := range lines {
		fmt.Fprintf(&c.b, `<text x="%d" y="%d" text-anchor="%s" font-weight="%s" fill="%s">%s</text>`+"\n",
			x, top+i*lineHeight+13, anchor, weight, ink, escaper.Replace(line))
	}
}

const (
	ink   = "#1f2937"
	faint = "#9ca3af"
	paper = "#eef2ff"
)
