package terminal

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// elapsed returns the time that the step has taken: by the clock of the host up to its last
// event, and by the clock of this process since then.
func (d *stepLine) elapsed(now time.Time) time.Duration {
	return max(0, d.latest.Sub(d.began)) + max(0, now.Sub(d.came))
}

// begin returns the name of the step and its time, each in its column.
func (d *stepLine) begin(now time.Time) string {
	return pad(d.label, nameColumns) + fmt.Sprintf("%*s", timeColumns, formatDuration(d.elapsed(now)))
}

// renderEnd returns the function that draws the last line of the step: with a word in a
// colour, or without a word with its bytes and its rate.
func (p *Progress) renderEnd(word, colour string) func(columns int) string {
	d, now, screen := *p.drawn, p.to.Now(), p.to.Err
	words := p.meter.summary()
	if word != "" {
		words = []string{word}
	}
	return func(columns int) string {
		for _, begin := range []string{d.begin(now), d.label} {
			for _, w := range words {
				if columnsOf(begin)+columnGap+columnsOf(w) <= columns {
					return begin + strings.Repeat(" ", columnGap) + screen.paint(colour, w)
				}
			}
			if word == "" && columnsOf(begin) <= columns {
				return begin
			}
		}
		if word == "" {
			return fit(d.label, columns)
		}
		word := fit(word, columns)
		label := fit(d.label, max(1, columns-columnsOf(word)-1))
		return fitted(columns, label+" "+screen.paint(colour, word), screen.paint(colour, word))
	}
}

// render returns the function that draws the line of the step. On a narrow terminal the line
// omits, in this order, the bar, the columns, the parts, the name and the total. It always
// has the amount, the rate and the remaining time.
func (p *Progress) render() func(columns int) string {
	d, m, now := *p.drawn, p.meter, p.to.Now()
	m.parts = slices.Clone(m.parts)
	return func(columns int) string {
		begin := d.begin(now)
		if len(m.samples) == 0 {
			return fitted(columns-2, begin, d.label) + " " + string(spinner[d.turn%len(spinner)])
		}
		moving := m.movingParts()
		if bar := min(mostBar, columns-columnsOf(begin)-numbers-6); bar >= leastBar && m.total > 0 && columnsOf(m.String()) <= numbers {
			text := begin + "  " + pad(m.String(), numbers) + "  [" + filled(m.share(), bar) + "]"
			return text + ending(columns, text, moving)
		}
		for _, text := range []string{
			begin + "  " + m.String(),
			d.label + ": " + m.String(),
			d.label + ": " + m.amount(false) + m.speed(),
			m.amount(false) + m.speed(),
		} {
			if columnsOf(text) <= columns {
				return text + ending(columns, text, moving)
			}
		}
		return fit(m.compact(), columns)
	}
}

// spinner has the characters that take turns beside a step that counts no bytes.
const spinner = `|/-\`

// fitted returns the first of texts that fits into the columns, or else the last one, cut.
func fitted(columns int, texts ...string) string {
	for _, text := range texts {
		if columnsOf(text) <= columns {
			return text
		}
	}
	return fit(texts[len(texts)-1], columns)
}

// ending returns the part of more that fits behind text; "" if too little of it does.
func ending(columns int, text, more string) string {
	const least = 8 // columns; a shorter beginning of more says nothing
	free := columns - columnsOf(text) - 2
	if more = strings.TrimSpace(more); more == "" || free < min(least, columnsOf(more)) {
		return ""
	}
	return "  " + fit(more, free)
}

// filled returns a bar of so many columns, of which share is filled.
func filled(share float64, columns int) string {
	full := int(share * float64(columns))
	return strings.Repeat("=", full) + strings.Repeat(" ", columns-full)
}

func severityColour(s operationsv1.Severity) string {
	switch s {
	case operationsv1.Severity_SEVERITY_WARNING:
		return yellow
	case operationsv1.Severity_SEVERITY_ERROR:
		return red
	}
	return ""
}

// level returns slog's level for the name of a severity or a log level of the API.
func level(severity string) slog.Level {
	switch severity {
	case "LOG_LEVEL_TRACE":
		return levelTrace
	case "SEVERITY_DEBUG", "LOG_LEVEL_DEBUG":
		return slog.LevelDebug
	case "SEVERITY_WARNING", "LOG_LEVEL_WARN":
		return slog.LevelWarn
	case "SEVERITY_ERROR", "LOG_LEVEL_ERROR":
		return slog.LevelError
	}
	return slog.LevelInfo
}
