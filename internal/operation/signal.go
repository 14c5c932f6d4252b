package operation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// StepDuration is the metric at the end of every step, done or undone: the seconds
// since the step first began, over restarts and reboots.
const StepDuration = "step.duration"

// Bounds of the attributes of one log event.
const (
	maxAttributes = 32
	maxAttribute  = 1 << 10 // bytes of one value
)

// An Origin is the call that began an operation.
type Origin struct {
	// Traceparent is the caller's place in a trace (W3C Trace Context, 3.2), or
	// empty.
	Traceparent string
	// RequestID names the call in the log.
	RequestID string
}

// TraceID returns the trace, in hexadecimal, to which the operation belongs: the
// caller's, or one that is computed from the operation's ID, so that daemons
// before and after a restart use the same.
func (o Operation) TraceID() string {
	if parts := strings.Split(o.Traceparent, "-"); len(parts) >= 4 && len(parts[1]) == 32 {
		return parts[1]
	}
	sum := sha256.Sum256([]byte("trident operation " + o.ID))
	return hex.EncodeToString(sum[:16])
}

// Log logs a message for watchers, with pairs of key and value as for slog. They
// are journaled, so they must not contain secrets.
func (r *Run[S]) Log(level slog.Level, message string, args ...any) {
	r.events.log(level, message, attributes(args))
}

// Metric reports a number to watchers. name is a constant of the program; unit is
// a unit of UCUM: s, By, 1.
func (r *Run[S]) Metric(name string, value float64, unit string) { r.events.metric(name, value, unit) }

func attributes(args []any) map[string]string {
	if len(args) == 0 {
		return nil
	}
	var record slog.Record
	record.Add(args...)
	out := map[string]string{}
	record.Attrs(func(a slog.Attr) bool {
		value := a.Value.Resolve().String()
		if len(value) > maxAttribute {
			value = strings.ToValidUTF8(value[:maxAttribute], "") + " …"
		}
		out[a.Key] = value
		return len(out) < maxAttributes
	})
	return out
}

// stepDuration returns the metric event of the step that has returned; none for a
// step without work, and for a step that an older version began.
func (r *Runner) stepDuration(a *active, op Operation, err error) []Event {
	if isWait(err) || op.StepBegan.IsZero() || !a.kind.hasWork(op.Step, op.Phase == Undoing) {
		return nil
	}
	e := newEvent(op, Metric)
	e.Name, e.Unit, e.Value = StepDuration, "s", max(0, e.Time.Sub(op.StepBegan).Seconds())
	return []Event{e}
}

// setOrigin stores the call that began an operation.
func (r *Runner) setOrigin(ctx context.Context, op *Operation) {
	if r.Config.Origin != nil {
		o := r.Config.Origin(ctx)
		op.Traceparent, op.RequestID = o.Traceparent, o.RequestID
	}
}

// publish passes the journaled events to the log and to Observe. before is the failure
// that the operation had before these events.
func (r *Runner) publish(op Operation, before *Failure, events []Event) {
	for _, e := range events {
		r.logEvent(op, before, e)
		if e.Type == Change {
			before = e.Failure
		}
	}
	if r.Config.Observe != nil {
		r.Config.Observe(op, events...)
	}
}

// logEvent writes an event to the daemon's log. Every change of a failed operation
// contains the failure, which the log has only once.
func (r *Runner) logEvent(op Operation, before *Failure, e Event) {
	attrs := []any{"operation", op.ID, "trace", op.TraceID()}
	if op.RequestID != "" {
		attrs = append(attrs, "request", op.RequestID)
	}
	if op.AskedBy != "" {
		attrs = append(attrs, "asked_by", op.AskedBy)
	}
	switch e.Type {
	case Log:
		attrs = append(attrs, "step", e.Step)
		for k, v := range e.Attributes {
			attrs = append(attrs, k, v)
		}
		r.Logger.Log(r.ctx, e.Level, e.Message, attrs...)
	case Metric:
		r.Logger.Debug("metric", append(attrs, "step", e.Step, "name", e.Name, "value", e.Value, "unit", e.Unit)...)
	case Change:
		attrs = append(attrs, "phase", e.Phase, "step", e.Step)
		if e.Waiting != "" {
			attrs = append(attrs, "waiting", e.Waiting)
		}
		level := slog.LevelInfo
		if reason := e.Failure.messageSince(before); reason != "" {
			attrs = append(attrs, "error", reason)
			if e.Failure.Kind != errkind.Cancelled {
				level = slog.LevelError
			}
		}
		r.Logger.Log(r.ctx, level, "operation", attrs...)
	}
}

// messageSince returns the part of the message of f that before does not have.
func (f *Failure) messageSince(before *Failure) string {
	switch {
	case f == nil:
		return ""
	case before == nil:
		return f.Message
	}
	return strings.TrimPrefix(strings.TrimPrefix(f.Message, before.Message), "; ")
}

func utcNow() time.Time { return time.Now().UTC() }
