package terminal

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// plainEvery is how often progress within a step is worth a line of its own
// where there is no terminal.
const plainEvery = 5 * time.Second

// frameEvery is how often the line of a step is drawn on a terminal, and idleStep how
// long a step takes that is shown there although it has said nothing.
const (
	frameEvery = 125 * time.Millisecond
	idleStep   = 500 * time.Millisecond
)

// Progress shows how an operation goes on: on a terminal one line per step that has
// something to do, with its time and what it has done; elsewhere plain lines. It is
// safe for use by several goroutines.
type Progress struct {
	to   *Streams
	live *live // nil: there is no terminal, or nothing to show on it
	// Answering asks which version of the daemon answers after a restart.
	Answering func() string
	// WatchCommand returns the command line that watches an operation.
	WatchCommand func(operation string) string

	mu sync.Mutex
	// failure is why the operation has turned back, which the end of the command says.
	failure *operationsv1.Failure

	step, phase string
	waiting     string
	meter       meter
	shown       time.Time // the last plain line about bytes

	drawn  *stepLine // nil: no step is shown on the terminal
	frames chan struct{}
}

// stepLine is the line of a step on a terminal.
type stepLine struct {
	label  string
	began  time.Time // by the clock of the events
	latest time.Time // the event that came last, by the same clock
	came   time.Time // when it came, by ours
	busy   bool      // the step has done something, or waits
	turn   int       // of the spinner
}

func NewProgress(s *Streams) *Progress {
	p := &Progress{to: s, Answering: func() string { return "" }, WatchCommand: func(string) string { return "" }}
	if s.Err.terminal && !s.Quiet {
		p.live = liveOn(s)
	}
	return p
}

// Event shows one event of an operation.
func (p *Progress) Event(e *client.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.to.Now()
	if e.GetTime() != nil {
		at = e.GetTime().AsTime()
	}
	if p.drawn != nil {
		p.drawn.latest, p.drawn.came = at, p.to.Now()
	}
	if waiting := e.GetChange().GetWaiting(); e.GetChange() != nil && waiting != p.waiting {
		p.wait(waiting, e.GetOperationId())
	}
	if h := e.GetHalt(); h != nil {
		p.halt(h)
		return
	}
	if e.GetStep() != p.step || phase(e.GetPhase()) != p.phase {
		p.move(at, e)
	}
	if b := e.GetProgress(); b != nil {
		p.part(at, b)
		p.bytesAt(at, p.label(), b.GetDone(), b.GetTotal())
	}
	if l := e.GetLog(); l != nil && level(l.GetSeverity().String()) >= p.to.Verbosity.Level() {
		p.busy()
		p.warn(severityColour(l.GetSeverity()), "  %s", l.GetMessage())
	}
}

// busy notes that the step has something to do.
func (p *Progress) busy() {
	if p.drawn != nil {
		p.drawn.busy = true
	}
}

// wait shows that the operation waits for a restart or a reboot, or that it
// does so no longer.
func (p *Progress) wait(waiting, operation string) {
	before := p.waiting
	p.waiting = waiting
	p.busy()
	switch {
	case waiting == "restart":
		p.say("Trident restarts; watching again")
	case waiting == "reboot":
		p.say(RequestingReboot + "; watching until the host is back")
		if operation != "" {
			p.say("To see from there on how it goes on: %s", p.WatchCommand(operation))
		}
	case waiting != "":
		p.say("Waiting for %s", waiting)
	case before != "":
		if v := p.Answering(); v != "" {
			p.say("Trident %s answers", v)
		}
	}
}

// halt shows that the operation is halted, or that it goes on.
func (p *Progress) halt(h *operationsv1.Halt) {
	p.busy()
	if h.GetCause() == nil {
		p.say("The operation goes on")
		return
	}
	p.warn(yellow, "The operation is halted: %s", h.GetCause().GetMessage())
	p.warn("", "%s", HaltHint(h))
}

// move comes to another step or phase. The failure itself is left to the end of the
// command, which shows it in any case.
func (p *Progress) move(at time.Time, e *client.Event) {
	failed := e.GetChange().GetFailure()
	turned := phase(e.GetPhase()) == "undoing" && p.phase != "undoing"
	switch {
	case turned && failed.GetReason() == string(errkind.Cancelled):
		p.closeStep("cancelled", "")
		p.say("Cancelled; undoing its steps")
	case turned:
		p.closeStep("failed", red)
		if p.live != nil || p.step == "" {
			p.say("Undoing its steps")
		} else {
			p.say("%s failed; undoing its steps", p.step)
		}
	case phase(e.GetPhase()) == "stuck":
		p.closeStep("failed", red)
	default:
		p.closeStep("", "")
	}
	if failed != nil {
		p.failure = failed
	}
	p.step, p.phase = e.GetStep(), phase(e.GetPhase())
	switch {
	case p.phase != "doing" && p.phase != "undoing", p.step == "":
	case p.live != nil:
		p.open(at, p.label())
	default:
		p.say("%s", p.label())
	}
}

func (p *Progress) label() string {
	if p.phase == "undoing" {
		return "undo " + Line(p.step)
	}
	return Line(p.step)
}

// part shows how far a part of a step is.
func (p *Progress) part(at time.Time, b *operationsv1.Progress) {
	if b.GetPart() == "" {
		return
	}
	name := Line(b.GetPart())
	if ended := p.meter.addPart(at, name, b.GetPartDone(), b.GetPartTotal()); ended && p.live == nil {
		p.say("  %s: %s done", name, bytesize.Format(b.GetPartTotal()))
	}
}

// Bytes shows how far something is that is done here; total is 0 when nobody
// knows.
func (p *Progress) Bytes(label string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytesAt(p.to.Now(), label, done, total)
}

func (p *Progress) bytesAt(at time.Time, label string, done, total int64) {
	p.meter.add(at, done, total)
	if p.shown.IsZero() {
		p.shown = at
	}
	if p.live != nil {
		if p.drawn == nil {
			p.open(at, label)
		}
		p.drawn.latest, p.drawn.came, p.drawn.busy = at, p.to.Now(), true
		p.live.draw(p.render())
		return
	}
	if at.Sub(p.shown) < plainEvery {
		return
	}
	p.shown = at
	p.say("%s: %s%s", label, &p.meter, p.meter.movingParts())
}

// open begins the line of a step.
func (p *Progress) open(at time.Time, label string) {
	now := p.to.Now()
	p.drawn = &stepLine{label: label, began: at, latest: at, came: now}
	p.live.draw(p.render())
	if p.frames == nil {
		p.frames = make(chan struct{})
		go p.animate(p.frames)
	}
}

// animate draws the line of the step again and again, and at once when the terminal
// has another size, until it is over.
func (p *Progress) animate(over <-chan struct{}) {
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	for {
		select {
		case <-over:
			return
		case <-resized:
		case <-tick.C:
		}
		p.frame()
	}
}

// frame draws the line of the step once more.
func (p *Progress) frame() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn != nil {
		p.drawn.turn++
		p.live.draw(p.render())
	}
}

// closeStep ends the line of the step, with a word in a colour if there is one. A step
// that has done nothing leaves no line.
func (p *Progress) closeStep(word, colour string) {
	d := p.drawn
	if d == nil {
		p.meter, p.shown = meter{}, time.Time{}
		return
	}
	if d.busy || word != "" || d.elapsed(p.to.Now()) >= idleStep {
		p.live.finish(p.renderEnd(word, colour))
	} else {
		p.live.erase()
	}
	p.drawn, p.meter, p.shown = nil, meter{}, time.Time{}
}

// elapsed is how long the step has taken: by the clock of the host up to its last
// event, and by ours since.
func (d *stepLine) elapsed(now time.Time) time.Duration {
	return max(0, d.latest.Sub(d.began)) + max(0, now.Sub(d.came))
}

// Columns of the line of a step.
const (
	nameColumns = 15 // most names of steps
	timeColumns = 7  // 59m59s behind a blank
	numbers     = 46 // 1023.9 MiB of 1023.9 MiB, 1023.9 MiB/s, 59m59s left
	leastBar    = 6
	mostBar     = 30
)

// begin is the step and its time, each in its column.
func (d *stepLine) begin(now time.Time) string {
	return pad(d.label, nameColumns) + fmt.Sprintf("%*s", timeColumns, formatDuration(d.elapsed(now)))
}

// renderEnd returns what draws the line of the step for the last time, with how it ended:
// a word in a colour, or else what its bytes came to.
func (p *Progress) renderEnd(word, colour string) func(columns int) string {
	d, now, screen := *p.drawn, p.to.Now(), p.live.screen
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

// render returns what draws the line of the step. What there is no room for goes: first
// the bar, then the columns, the parts, the name, and the total. Amount, rate and time
// stay.
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

// spinner is what turns beside a step that counts no bytes.
const spinner = `|/-\`

// fitted is the first of texts that fits, or the last one, cut.
func fitted(columns int, texts ...string) string {
	for _, text := range texts {
		if columnsOf(text) <= columns {
			return text
		}
	}
	return fit(texts[len(texts)-1], columns)
}

// ending is what to add behind text: all of more, the beginning of it, or nothing.
func ending(columns int, text, more string) string {
	const least = 8 // columns, in which the beginning says something
	free := columns - columnsOf(text) - 2
	if more = strings.TrimSpace(more); more == "" || free < min(least, columnsOf(more)) {
		return ""
	}
	return "  " + fit(more, free)
}

// filled is a bar.
func filled(share float64, columns int) string {
	full := int(share * float64(columns))
	return strings.Repeat("=", full) + strings.Repeat(" ", columns-full)
}

// warn is say that is printed with --quiet, too, and in a colour.
func (p *Progress) warn(colour, format string, args ...any) {
	text := Line(fmt.Sprintf(format, args...))
	fmt.Fprintln(p.to.Stderr, p.to.Err.paint(colour, text))
}

// say prints a line of its own, above that of the step.
func (p *Progress) say(format string, args ...any) {
	if !p.to.Quiet {
		p.warn("", format, args...)
	}
}

// Line is say for callers outside.
func (p *Progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say(format, args...)
}

// End ends the line of the step.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeStep("", "")
	if p.frames != nil {
		close(p.frames)
		p.frames = nil
	}
}

// Reason is why the operation has turned back; "" while it has not.
func (p *Progress) Reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure.GetMessage()
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

// level is a severity of the API as one of slog.
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
