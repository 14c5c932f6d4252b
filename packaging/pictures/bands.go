package main

import (
	"fmt"
	"regexp"
	"strings"
)

// packageName finds the packages in a cell of the table.
var packageName = regexp.MustCompile("`([a-z0-9/]+)`")

// A band is a row of packages that may import the rows below.
type band struct {
	name     string
	packages []string
}

// readBands reads the first table of a page whose columns are a band (empty: the band
// above), packages, and a text. The band "tests" is left out: it may import everything.
func readBands(page string) ([]band, error) {
	var bands []band
	for _, line := range strings.Split(page, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			if len(bands) > 0 {
				break
			}
			continue
		}
		packages := packageName.FindAllStringSubmatch(cells[2], -1)
		if len(packages) == 0 { // the head of the table
			continue
		}
		name := strings.TrimSpace(cells[1])
		if name == "tests" {
			break
		}
		if name != "" {
			bands = append(bands, band{name: name})
		}
		if len(bands) == 0 {
			return nil, fmt.Errorf("the first package of the table has no band")
		}
		for _, p := range packages {
			b := &bands[len(bands)-1]
			b.packages = append(b.packages, p[1])
		}
	}
	if len(bands) == 0 {
		return nil, fmt.Errorf("there is no table of bands and packages")
	}
	return bands, nil
}

func drawBands(title, page string) ([]byte, error) {
	bands, err := readBands(page)
	if err != nil {
		return nil, err
	}
	const width, label, cell, high = 880, 90, 8, lineHeight + 8
	var c canvas
	y := margin
	for i, b := range bands {
		if i > 0 {
			c.arrowDown(label/2+margin, y-rowGap, y+rowGap-4)
			y += rowGap
		}
		top := y
		y += cell
		x := margin + label
		var boxes canvas
		for _, p := range b.packages {
			w := int(float64(len(p))*letter) + 18
			if x+w > width-margin-cell {
				x, y = margin+label, y+high+cell
			}
			boxes.rect(x, y, w, high, "#ffffff", faint)
			boxes.text(x+w/2, y+3, "middle", "normal", []string{p})
			x += w + cell
		}
		y += high + cell
		c.rect(margin, top, width-2*margin, y-top, paper, faint)
		c.text(margin+12, top+cell+3, "start", "bold", []string{b.name})
		c.b.Write(boxes.b.Bytes())
		y += rowGap
	}
	return c.finish(title, width, y+margin-rowGap), nil
}

// arrowDown draws an arrow downwards.
func (c *canvas) arrowDown(x, from, to int) {
	c.line(x, from, x, to, ink, "none")
	fmt.Fprintf(&c.b, `<path d="M%d %d l-4 -7 h8 z" fill="%s"/>`+"\n", x, to, ink)
}
