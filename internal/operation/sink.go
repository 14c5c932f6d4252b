package operation

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"
)

const (
	// progressEvery bounds how often progress is journaled.
	progressEvery = 200 * time.Millisecond
	// flushEvery bounds how often lines and metrics are journaled. Further events
	// are held until then, or until a change, so that a step that logs much does not
	// wait for the disk each time. A crash may lose the events of that time.
	flushEvery = 50 * time.Millisecond
	// maxHeld bounds the number of held events.
	maxHeld = 256
)

// flush journals the held events. It logs a failure: the next save reports it too.
// The caller holds r.mu.
func (r *Runner) flush(a *active) {
	a.flushTimer.Stop()
	if len(a.held) == 0 {
		return
	}
	held := a.held
	a.held, a.lastFlush = nil, utcNow()
	err := r.save(context.WithoutCancel(r.ctx), a, a.op, held...)
	if err == nil {
		return
	}
	r.Logger.Warn("cannot journal events", "operation", a.op.ID, "events", len(held), "error", err)
	for _, e := range held {
		if e.Type == Log {
			r.Logger.Warn("not journaled: "+e.Message, "operation", a.op.ID)
		}
	}
}

// flushOnTimer is flush, called by the timer.
func (r *Runner) flushOnTimer(a *active) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.isRunning {
		r.flush(a)
	}
}

// stepSink is the sink of a running step.
type stepSink struct {
	r *Runner
	a *active
}

// progress holds events that come too soon after the last flush: the newest of
// each part, so that many parts cost no more writes than one.
func (s *stepSink) progress(progress Event) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := newEvent(s.a.op, Progress)
	e.Done, e.Total, e.Part, e.PartDone, e.PartTotal = progress.Done, progress.Total, progress.Part, progress.PartDone, progress.PartTotal
	lines := 0 // events up to the last line keep their order
	for i, o := range s.a.held {
		if o.Type != Progress {
			lines = i + 1
		}
	}
	newest := slices.DeleteFunc(s.a.held[lines:], func(o Event) bool { return o.Part == e.Part })
	s.a.held = append(s.a.held[:lines+len(newest)], e)
	if e.Time.Sub(s.a.lastProgress) < progressEvery && len(s.a.held) < maxHeld {
		return
	}
	s.a.lastProgress = e.Time
	s.r.flush(s.a)
}

func (s *stepSink) log(level slog.Level, message string, attributes map[string]string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := newEvent(s.a.op, Log)
	e.Level, e.Message, e.Attributes = level, message, attributes
	s.hold(e)
}

func (s *stepSink) metric(name string, value float64, unit string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := newEvent(s.a.op, Metric)
	e.Name, e.Value, e.Unit = name, value, unit
	s.hold(e)
}

// hold journals an event, or holds it for a moment.
func (s *stepSink) hold(e Event) {
	s.a.held = append(s.a.held, e)
	since := e.Time.Sub(s.a.lastFlush)
	if since >= flushEvery || len(s.a.held) >= maxHeld {
		s.r.flush(s.a)
		return
	}
	s.a.flushTimer.Reset(flushEvery - since)
}

// record journals the record of a running step. While the journal refuses, the
// step waits, until ctx ends. hasAdvanced says that the step has advanced for
// good.
func (s *stepSink) record(ctx context.Context, state json.RawMessage, advanced bool) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.r.persist(ctx, s.a, nil, func() (Operation, []Event) {
		op := s.a.op
		op.State = state
		if advanced {
			s.a.hasAdvanced, s.a.keptProgress = true, 0
		}
		return op, nil
	}, nil)
}

// minKeptProgress is how many more bytes than before count as an advance of the
// step.
const minKeptProgress = 16 << 20

func (s *stepSink) kept(done, total int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	enough := int64(minKeptProgress)
	if total > 0 {
		enough = min(enough, max(1, total/16))
	}
	before := s.a.op.Kept
	if s.a.hasAdvanced {
		before = max(before, s.a.keptProgress)
	}
	if done >= before+enough {
		s.a.hasAdvanced, s.a.keptProgress = true, done
	}
}

type discardSink struct{}

func (discardSink) progress(Event)                                      {}
func (discardSink) log(slog.Level, string, map[string]string)           {}
func (discardSink) metric(string, float64, string)                      {}
func (discardSink) kept(int64, int64)                                   {}
func (discardSink) record(context.Context, json.RawMessage, bool) error { return nil }
