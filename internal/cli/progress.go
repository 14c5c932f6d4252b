package cli

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/trident-project/trident/proto/client"
)

// plainEvery is how often progress within a step is worth a line of its own
// where there is no terminal.
const plainEvery = 5 * time.Second

// progress shows how an operation goes on: on a terminal one line per step with
// a bar for what is counted in bytes, elsewhere plain lines.
type progress struct {
	app *app
	// answering asks which version of the daemon answers after a restart.
	answering func() string

	step, phase string
	waiting     string
	open        bool // the line of the step has no end yet
	bar         *progressbar.ProgressBar
	begun       time.Time // when the first bytes of the step were seen
	from        int64     // and how many they were
	shown       time.Time
}

func newProgress(a *app) *progress {
	return &progress{app: a, answering: func() string { return "" }}
}

// event shows one event of an operation.
func (p *progress) event(e *client.Event) {
	if waiting := e.GetChange().GetWaiting(); e.GetChange() != nil && waiting != p.waiting {
		p.wait(waiting)
	}
	if e.GetStep() != p.step || phase(e.GetPhase()) != p.phase {
		p.move(e)
	}
	if b := e.GetProgress(); b != nil {
		p.bytes(p.label(), b.GetDone(), b.GetTotal())
	}
	if l := e.GetLog(); l != nil && level(l.GetSeverity().String()) >= p.app.verbosity.Level() {
		p.line("  %s", line(l.GetMessage()))
	}
}

// wait shows that the operation waits for a restart or a reboot, or that it
// does so no longer.
func (p *progress) wait(waiting string) {
	before := p.waiting
	p.waiting = waiting
	switch {
	case waiting == "restart":
		p.line("Trident restarts; watching again")
	case waiting == "reboot":
		p.line(requestingReboot + "; watching until the host is back")
	case waiting != "":
		p.line("Waiting for %s", line(waiting))
	case before != "":
		if v := p.answering(); v != "" {
			p.line("Trident %s answers", v)
		}
	}
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

// bytes shows how far a step is; total is 0 when nobody knows.
func (p *progress) bytes(label string, done, total int64) {
	now := p.app.now()
	if p.begun.IsZero() {
		p.begun, p.shown, p.from = now, now, done
	}
	if p.app.terminal {
		p.show(label, done, total)
		return
	}
	if now.Sub(p.shown) < plainEvery {
		return
	}
	p.shown = now
	text := label + ": " + size(done)
	if total > 0 {
		text += " of " + size(total)
	}
	if rate := float64(done-p.from) / now.Sub(p.begun).Seconds(); rate > 0 {
		text += fmt.Sprintf(", %s/s", size(int64(rate)))
	}
	p.line("%s", text)
}

func (p *progress) show(label string, done, total int64) {
	if total <= 0 {
		total = -1
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.app.stderr),
			progressbar.OptionSetDescription(fmt.Sprintf("%-10s", label)),
			progressbar.OptionSetWidth(max(10, min(40, p.app.columns-60))),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowCount(),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowTotalBytes(true),
			progressbar.OptionSetSpinnerChangeInterval(0),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionUseANSICodes(true),
		)
		p.open = true
	}
	_ = p.bar.Set64(done) // an error is one of the terminal
}

// line prints a line of its own, below that of the step.
func (p *progress) line(format string, args ...any) {
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
	p.open, p.bar, p.begun = false, nil, time.Time{}
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
