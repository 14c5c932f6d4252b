package terminal

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// plainEvery is the shortest time between two lines about the bytes of one step, where
// there is no terminal.
const plainEvery = 5 * time.Second

// frameEvery is the time between two drawings of a step's line on a terminal. A step without
// any message keeps its line if it takes at least idleStep.
const (
	frameEvery = 125 * time.Millisecond
	idleStep   = 500 * time.Millisecond
)

// Progress shows the progress of an operation: on a terminal one line for each step that
// does something, with its time and its bytes; elsewhere plain lines. Several goroutines may
// use it.
type Progress struct {
	to   *Streams
	live liveLine // nil: there is no terminal, or nothing to show on it
	// Answering asks the daemon for its version after a restart; "" if it does not answer.
	Answering func() string
	// WatchCommand returns the command line that watches an operation, "" if there is none.
	WatchCommand func(operation string) string

	mu sync.Mutex
	// failure is the reason of the undo. The command prints it at its end.
	failure *operationsv1.Failure

	step, phase string
	waiting     string
	meter       meter
	printed     time.Time // the time of the last plain line about bytes

	drawn  *stepLine // nil: no step is shown on the terminal
	frames chan struct{}
}

// A liveLine is a line of a terminal that is redrawn in place.
type liveLine interface {
	// draw replaces the line by the text that render returns for the available columns.
	draw(render func(columns int) string)
	// finish draws the line for the last time.
	finish(render func(columns int) string)
	// erase ends the line and clears it.
	erase()
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
	switch {
	case !s.Err.terminal || s.Quiet:
	case s.host != nil:
		p.live = s.host
	default:
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

// busy notes that the step does something, so that its line stays.
func (p *Progress) busy() {
	if p.drawn != nil {
		p.drawn.busy = true
	}
}

// wait shows that the operation waits for a restart or a reboot, or that the wait is over.
func (p *Progress) wait(waiting, operation string) {
	before := p.waiting
	p.waiting = waiting
	p.busy()
	switch {
	case waiting == "restart":
		p.say("Trident restarts; watching again")
	case waiting == "reboot":
		p.say(RequestingReboot + "; watching until the host is back")
		if command := p.WatchCommand(operation); operation != "" && command != "" {
			p.say("To see from there on how it goes on: %s", command)
		}
	case waiting == "continue":
		p.say("Paused; to go on: trident operation continue %s", operation)
		p.say("To undo it instead: trident operation cancel %s", operation)
	case waiting != "":
		p.say("Waiting for %s", waiting)
	case before != "":
		if v := p.Answering(); v != "" {
			p.say("Trident %s answers", v)
		}
	}
}

// halt shows that the operation is halted, or that it continues after a halt.
func (p *Progress) halt(h *operationsv1.Halt) {
	p.busy()
	if h.GetCause() == nil {
		p.say("The operation goes on")
		return
	}
	p.warn(yellow, "The operation is halted: %s", h.GetCause().GetMessage())
	p.warn("", "%s", haltHint(h))
}

// move ends the line of the previous step and begins that of the next step or phase. It does
// not print the failure, because the command prints it at its end.
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

// part shows the progress of a part of a step, such as one partition.
func (p *Progress) part(at time.Time, b *operationsv1.Progress) {
	if b.GetPart() == "" {
		return
	}
	name := Line(b.GetPart())
	if ended := p.meter.addPart(at, name, b.GetPartDone(), b.GetPartTotal()); ended && p.live == nil {
		p.say("  %s: %s done", name, bytesize.Format(b.GetPartTotal()))
	}
}

// Bytes shows the progress of work that this process does itself. total is 0 if it is not
// known.
func (p *Progress) Bytes(label string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytesAt(p.to.Now(), label, done, total)
}

func (p *Progress) bytesAt(at time.Time, label string, done, total int64) {
	p.meter.add(at, done, total)
	if p.printed.IsZero() {
		p.printed = at
	}
	if p.live != nil {
		if p.drawn == nil {
			p.open(at, label)
		}
		p.drawn.latest, p.drawn.came, p.drawn.busy = at, p.to.Now(), true
		p.live.draw(p.render())
		return
	}
	if at.Sub(p.printed) < plainEvery {
		return
	}
	p.printed = at
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

// animate draws the line of the step every frameEvery, and at once when the terminal gets
// another size, until over is closed.
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

// closeStep ends the line of the step, with a word in a colour unless word is "". It erases
// the line of a step that did nothing.
func (p *Progress) closeStep(word, colour string) {
	d := p.drawn
	if d == nil {
		p.meter, p.printed = meter{}, time.Time{}
		return
	}
	if d.busy || word != "" || d.elapsed(p.to.Now()) >= idleStep {
		p.live.finish(p.renderEnd(word, colour))
	} else {
		p.live.erase()
	}
	p.drawn, p.meter, p.printed = nil, meter{}, time.Time{}
}

// Columns of the line of a step.
const (
	nameColumns = 15 // most names of steps
	timeColumns = 7  // 59m59s behind a blank
	numbers     = 46 // 1023.9 MiB of 1023.9 MiB, 1023.9 MiB/s, 59m59s left
	leastBar    = 6
	mostBar     = 30
)

// warn prints a line in a colour, also with --quiet.
func (p *Progress) warn(colour, format string, args ...any) {
	text := Line(fmt.Sprintf(format, args...))
	fmt.Fprintln(p.to.Stderr, p.to.Err.paint(colour, text))
}

// say prints a line above the line of the step, unless --quiet is given.
func (p *Progress) say(format string, args ...any) {
	if !p.to.Quiet {
		p.warn("", format, args...)
	}
}

// Line prints a line above the line of the step, unless --quiet is given.
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

// Reason returns the reason of the undo; "" before an undo.
func (p *Progress) Reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure.GetMessage()
}
