package terminal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
)

const (
	// rateTime is the time before now that counts for the rate of a step.
	rateTime = 10 * time.Second
	// rateLeast is the shortest time for which there is a rate.
	rateLeast = 200 * time.Millisecond
	// movesTime is the time after its last event for which a part counts as moving.
	movesTime = 5 * time.Second
	// maxParts bounds the parts of a step that the meter keeps.
	maxParts = 256
)

// meter calculates the rate and the remaining time of a step. It uses the times of the
// events, so that events that are read long afterwards give the same rates.
type meter struct {
	first   sample
	samples []sample // the samples that count for the rate, the oldest first
	total   int64    // 0 if it is not known
	parts   []part
}

type sample struct {
	at   time.Time
	done int64
}

type part struct {
	name        string
	at          time.Time
	done, total int64
}

// add records the bytes of the step that are done at a time. Fewer bytes than before mean
// that the step began again.
func (m *meter) add(at time.Time, done, total int64) {
	if last := m.last(); len(m.samples) == 0 || done < last.done || at.Before(last.at) {
		m.first, m.samples = sample{at, done}, nil
	}
	m.total = total
	m.samples = append(m.samples, sample{at, done})
	old := 0
	for old < len(m.samples)-2 && at.Sub(m.samples[old+1].at) >= rateTime {
		old++
	}
	m.samples = slices.Delete(m.samples, 0, old)
}

// addPart records the bytes of a part. ended reports whether the part is complete now and
// was not before.
func (m *meter) addPart(at time.Time, name string, done, total int64) (ended bool) {
	p := part{name, at, done, total}
	i := slices.IndexFunc(m.parts, func(o part) bool { return o.name == name })
	switch {
	case i >= 0:
		before := m.parts[i]
		m.parts[i] = p
		return p.isComplete() && !before.isComplete()
	case len(m.parts) < maxParts:
		m.parts = append(m.parts, p)
	}
	return p.isComplete()
}

func (p part) isComplete() bool { return p.total > 0 && p.done >= p.total }

func (m *meter) last() sample {
	if len(m.samples) == 0 {
		return sample{}
	}
	return m.samples[len(m.samples)-1]
}

// rate returns the bytes per second within rateTime, or of the whole step once it is
// complete; 0 if there is no rate yet.
func (m *meter) rate() float64 {
	last, from := m.last(), m.first
	if len(m.samples) > 0 && (m.total == 0 || last.done < m.total) {
		from = m.samples[0]
	}
	took := last.at.Sub(from.at)
	if took < rateLeast {
		return 0
	}
	return float64(last.done-from.done) / took.Seconds()
}

// String returns the amount, the rate and the remaining time.
func (m *meter) String() string { return m.amount(true) + m.speed() }

// amount returns the bytes that are done, and with total also the number of all bytes.
func (m *meter) amount(total bool) string {
	text := bytesize.Format(m.last().done)
	if total && m.total > 0 {
		text += " of " + bytesize.Format(m.total)
	}
	return text
}

// speed returns a comma, the rate and the remaining time; "" if there is no rate yet.
func (m *meter) speed() string {
	rate := m.rate()
	if rate <= 0 {
		return ""
	}
	text := fmt.Sprintf(", %s/s", bytesize.Format(int64(rate)))
	if rest, ok := m.rest(); ok {
		text += fmt.Sprintf(", %s left", rest.Round(time.Second))
	}
	return text
}

// compact returns the facts of String in at most 17 columns.
func (m *meter) compact() string {
	text := bytesize.Short(m.last().done)
	rate := m.rate()
	if rate <= 0 {
		return text
	}
	text += " " + bytesize.Short(int64(rate)) + "/s"
	if rest, ok := m.rest(); ok {
		text += " " + shortTime(rest)
	}
	return text
}

// rest returns the remaining time; ok is false if it is not known or the step is complete.
func (m *meter) rest() (remaining time.Duration, ok bool) {
	rate, rest := m.rate(), m.total-m.last().done
	if rate <= 0 || rest <= 0 {
		return 0, false
	}
	return time.Duration(min(float64(rest)/rate, 1e6) * float64(time.Second)), true
}

// share returns the fraction of the bytes that is done, from 0 to 1.
func (m *meter) share() float64 {
	if m.total <= 0 {
		return 0
	}
	return min(1, max(0, float64(m.last().done)/float64(m.total)))
}

// summary returns texts about the bytes of a step, the longest first.
func (m *meter) summary() []string {
	if len(m.samples) == 0 {
		return nil
	}
	text := bytesize.Format(m.last().done)
	if rate := m.rate(); rate > 0 {
		return []string{text + fmt.Sprintf(", %s/s", bytesize.Format(int64(rate))), text}
	}
	return []string{text}
}

// shortTime formats a time in one unit: 99s, 99m, 2h.
func shortTime(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0fm", d.Minutes())
	}
	return fmt.Sprintf("%.0fh", d.Hours())
}

// formatDuration formats a duration, to the second: 7s, 1m04s, 2h05m.
func formatDuration(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}

// movingParts returns the names of the parts that move, each with its progress; "" if none
// does.
func (m *meter) movingParts() string {
	var out []string
	for _, p := range m.parts {
		switch {
		case p.isComplete() || m.last().at.Sub(p.at) >= movesTime:
		case p.total > 0:
			out = append(out, fmt.Sprintf("%s %d%%", p.name, int(100*(float64(p.done)/float64(p.total)))))
		default:
			out = append(out, p.name+" "+bytesize.Format(p.done))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, ", ") + ")"
}
