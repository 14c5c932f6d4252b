package main

import (
	"fmt"
	"strings"
)

// A sequence is a picture of actors, side by side, and what they do, from top down.
type sequence struct {
	title string
	names []string
	lanes map[string]int // by ID
	rows  []row
}

// A row is one thing that happens. from and to are the same lane for an act of one
// actor, and -1 for a line across all lanes.
type row struct {
	from, to int
	text     string
}

func (s *sequence) addLane(rest string) error {
	id, name, ok := strings.Cut(rest, " ")
	if !ok {
		return fmt.Errorf("lane %q has no text", rest)
	}
	if _, ok := s.lanes[id]; ok {
		return fmt.Errorf("lane %q is defined twice", id)
	}
	s.lanes[id] = len(s.names)
	s.names = append(s.names, strings.TrimSpace(name))
	return nil
}

func (s *sequence) addRow(line string) error {
	who, text, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("unknown directive %q", line)
	}
	from, to, two := strings.Cut(who, ">")
	if !two {
		to = from
	}
	r := row{text: strings.TrimSpace(text)}
	for _, end := range []struct {
		id   string
		lane *int
	}{{from, &r.from}, {to, &r.to}} {
		id := strings.TrimSpace(end.id)
		if *end.lane, ok = s.lanes[id]; !ok {
			return fmt.Errorf("unknown lane %q", id)
		}
	}
	s.rows = append(s.rows, r)
	return nil
}

const (
	laneWidth = 216
	boxWidth  = 200
	rowGap    = 12
)

func (s *sequence) draw() []byte {
	var c canvas
	width := 2*margin + laneWidth*len(s.names)
	middle := func(lane int) int { return margin + laneWidth*lane + laneWidth/2 }
	top := margin + 2*lineHeight + rowGap
	height := top
	for _, r := range s.rows {
		height += s.height(r) + rowGap
	}
	for i, name := range s.names {
		c.line(middle(i), margin, middle(i), height, faint, "2 3")
		c.rect(middle(i)-boxWidth/2, margin, boxWidth, lineHeight+8, ink, ink)
		fmt.Fprintf(&c.b, `<text x="%d" y="%d" text-anchor="middle" font-weight="bold" fill="#ffffff">%s</text>`+"\n", middle(i), margin+17, escaper.Replace(name))
	}
	y := top
	for _, r := range s.rows {
		h := s.height(r)
		lines := s.lines(r)
		switch {
		case r.from < 0:
			c.line(margin, y+h/2, width-margin, y+h/2, faint, "6 4")
			w := int(float64(len([]rune(r.text)))*letter) + 16
			c.rect((width-w)/2, y, w, h, "#ffffff", "#ffffff")
			c.text(width/2, y+3, "middle", "normal", lines)
		case r.from == r.to:
			c.rect(middle(r.from)-boxWidth/2, y, boxWidth, h, paper, faint)
			c.text(middle(r.from), y+3, "middle", "normal", lines)
		default:
			at := (middle(r.from) + middle(r.to)) / 2
			w := 0
			for _, line := range lines {
				w = max(w, int(float64(len([]rune(line)))*letter)+8)
			}
			c.rect(at-w/2, y, w, h-8, "#ffffff", "#ffffff")
			c.text(at, y, "middle", "normal", lines)
			c.arrow(middle(r.from), middle(r.to), y+h-4)
		}
		y += h + rowGap
	}
	return c.finish(s.title, width, height+margin)
}

// lines breaks the text of a row for the room that it has.
func (s *sequence) lines(r row) []string {
	switch {
	case r.from < 0:
		return []string{r.text}
	case r.from == r.to:
		return wrap(r.text, boxWidth-8)
	}
	return wrap(r.text, laneWidth*max(r.from-r.to, r.to-r.from)-24)
}

func (s *sequence) height(r row) int {
	return lineHeight*len(s.lines(r)) + 9
}
