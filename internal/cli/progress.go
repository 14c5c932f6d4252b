package cli

import (
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// plainEvery is how often progress within a step is worth a line of its own
// where there is no terminal.
const plainEvery = 5 * time.Second

// progress shows how an operation goes on: on a terminal one line per step, with
// a bar for what is counted in bytes and the parts that move; elsewhere plain lines.
type progress struct {
	app *app
	// answering asks which version of the daemon answers after a restart.
	answering func() string

	step, phase string
	waiting     string
	open        bool // the line of the step has no end yet
	bar         *progressbar.ProgressBar
	most        int64 // what the bar counts to
	width       int   // of the bar in this step; 0 before its first frame
	meter       meter
	shown       time.Time // the last plain line about bytes
}

func newProgress(a *app) *progress {
	return &progress{app: a, answering: func() string { return "" }}
}

// event shows one event of an operation.
func (p *progress) event(e *client.Event) {
	if waiting := e.GetChange().GetWaiting(); e.GetChange() != nil && waiting != p.waiting {
		p.wait(waiting, e.GetOperationId())
	}
	if h := e.GetHalt(); h != nil {
		p.halt(h)
		return
	}
	if e.GetStep() != p.step || phase(e.GetPhase()) != p.phase {
		p.move(e)
	}
	if b := e.GetProgress(); b != nil {
		at := p.app.now()
		if e.GetTime() != nil {
			at = e.GetTime().AsTime()
		}
		p.part(at, b)
		p.bytesAt(at, p.label(), b.GetDone(), b.GetTotal())
	}
	if l := e.GetLog(); l != nil && level(l.GetSeverity().String()) >= p.app.verbosity.Level() {
		p.warn("  %s", line(l.GetMessage()))
	}
}

// wait shows that the operation waits for a restart or a reboot, or that it
// does so no longer.
func (p *progress) wait(waiting, operation string) {
	before := p.waiting
	p.waiting = waiting
	switch {
	case waiting == "restart":
		p.line("Trident restarts; watching again")
	case waiting == "reboot":
		p.line(requestingReboot + "; watching until the host is back")
		if operation != "" {
			p.line("To see from there on how it goes on: %s", p.app.command("watch", operation))
		}
	case waiting != "":
		p.line("Waiting for %s", line(waiting))
	case before != "":
		if v := p.answering(); v != "" {
			p.line("Trident %s answers", v)
		}
	}
}

// halt shows that the operation is halted, or that it goes on.
func (p *progress) halt(h *operationsv1.Halt) {
	if h.GetCause() == nil {
		p.line("The operation goes on")
		return
	}
	p.warn("The operation is halted: %s", line(h.GetCause().GetMessage()))
	p.warn("%s", line(haltHint(h)))
}

// move comes to another step or phase.
func (p *progress) move(e *client.Event) {
	p.end()
	turned := phase(e.GetPhase()) == "undoing" && p.phase != "undoing"
	p.step, p.phase = e.GetStep(), phase(e.GetPhase())
	if turned {
		p.line("Taking back what was done: %s", line(e.GetChange().GetFailure().GetMessage()))
	}
	switch {
	case p.phase != "doing" && p.phase != "undoing", p.step == "":
	case p.app.quiet:
	case p.app.terminal:
		fmt.Fprintf(p.app.stderr, "%s", p.label())
		p.open = true
	default:
		p.line("%s", p.label())
	}
}

func (p *progress) label() string {
	if p.phase == "undoing" {
		return "undo " + line(p.step)
	}
	return line(p.step)
}

// part shows how far a part of a step is.
func (p *progress) part(at time.Time, b *operationsv1.Progress) {
	if b.GetPart() == "" {
		return
	}
	name := line(b.GetPart())
	if ended := p.meter.addPart(at, name, b.GetPartDone(), b.GetPartTotal()); ended && !p.app.terminal {
		p.line("  %s: %s done", name, size(b.GetPartTotal()))
	}
}

// bytes shows how far something is that is done here; total is 0 when nobody
// knows.
func (p *progress) bytes(label string, done, total int64) { p.bytesAt(p.app.now(), label, done, total) }

func (p *progress) bytesAt(at time.Time, label string, done, total int64) {
	p.meter.add(at, done, total)
	if p.shown.IsZero() {
		p.shown = at
	}
	if p.app.terminal && !p.app.quiet {
		p.show(label, done, total)
		return
	}
	if at.Sub(p.shown) < plainEvery {
		return
	}
	p.shown = at
	p.line("%s: %s%s", label, &p.meter, p.meter.moving())
}

// show draws the bar. The numbers beside it are ours: the bar would take what
// was there before its first frame for the work of that moment.
func (p *progress) show(label string, done, total int64) {
	text := label + ": " + p.meter.String()
	if p.width == 0 {
		p.width = max(1, min(30, p.app.columns/4, p.app.columns-barRest-rateWidth-utf8.RuneCountInString(text)))
	}
	width := p.width
	if width < leastBar { // amount, rate and time say more than a bar
		p.open = true
		fmt.Fprintf(p.app.stderr, "\r\x1b[K%s", shortened(text+p.meter.moving(), p.app.columns-1))
		return
	}
	if total <= 0 {
		total = -1
	}
	if p.bar == nil || p.most != total {
		p.most = total
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.app.stderr),
			progressbar.OptionSetWidth(width),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionShowDescriptionAtLineEnd(),
			progressbar.OptionSetSpinnerChangeInterval(0),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionUseANSICodes(true),
		)
	}
	p.open = true
	// Before the amount: the frame that shows the end is the last that is drawn.
	p.bar.Describe(shortened(text+p.meter.moving(), p.app.columns-width-barRest))
	if total > 0 {
		done = min(done, total) // more is an error of who counts, not of the terminal
	}
	_ = p.bar.Set64(done)
}

// leastBar is how wide a bar has to be to say anything.
const leastBar = 5

// rateWidth is the room of the rate and the time, which the first frame of a step does
// not know yet: whether there is a bar does not change within a step.
const rateWidth = 24

// barRest is what the line of a bar has beside the bar and our text: percents,
// ends, blanks.
const barRest = 12

// shortened is a text of so many characters at most.
func shortened(text string, most int) string {
	runes := []rune(text)
	if most < 1 || len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// warn is line that is printed with --quiet, too.
func (p *progress) warn(format string, args ...any) {
	quiet := p.app.quiet
	p.app.quiet = false
	p.line(format, args...)
	p.app.quiet = quiet
}

// line prints a line of its own, below that of the step.
func (p *progress) line(format string, args ...any) {
	if p.app.quiet {
		return
	}
	if p.open {
		fmt.Fprintln(p.app.stderr)
		p.open = false
	}
	fmt.Fprintf(p.app.stderr, format+"\n", args...)
}

// end ends the line of the step.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Exit()
	}
	if p.open {
		fmt.Fprintln(p.app.stderr)
	}
	p.open, p.bar, p.width, p.meter, p.shown = false, nil, 0, meter{}, time.Time{}
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
