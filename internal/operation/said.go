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
	// linesEvery bounds how often lines and metrics are. What comes sooner after
	// others is held back until then, or until a change: a step that says much
	// does not wait for the disk each time. So long may what it has said last be
	// missing after a crash.
	linesEvery = 50 * time.Millisecond
	// maxAhead bounds what is held back.
	maxAhead = 256
)

// flush journals what was held back. That it cannot be journaled is found by what
// comes next. The caller holds r.mu.
func (r *Runner) flush(a *active) {
	a.later.Stop()
	if len(a.ahead) == 0 {
		return
	}
	held := a.ahead
	a.ahead, a.spoken = nil, now()
	err := r.save(context.WithoutCancel(r.ctx), a, a.op, held...)
	if err == nil {
		return
	}
	r.Logger.Warn("events not journaled", "operation", a.op.ID, "events", len(held), "error", err)
	for _, e := range held {
		if e.Type == Log {
			r.Logger.Warn("not journaled: "+e.Message, "operation", a.op.ID)
		}
	}
}

// flushLater is flush from a timer.
func (r *Runner) flushLater(a *active) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.running {
		r.flush(a)
	}
}

// stepSink takes what a running step says.
type stepSink struct {
	r *Runner
	a *active
}

// progress holds what comes too soon after what was journaled: of each part the
// newest, so that many parts cost no more writes than one.
func (s *stepSink) progress(said Event) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := event(s.a.op, Progress)
	e.Done, e.Total, e.Part, e.PartDone, e.PartTotal = said.Done, said.Total, said.Part, said.PartDone, said.PartTotal
	lines := 0 // up to the last one everything stays, in its order
	for i, o := range s.a.ahead {
		if o.Type != Progress {
			lines = i + 1
		}
	}
	newest := slices.DeleteFunc(s.a.ahead[lines:], func(o Event) bool { return o.Part == e.Part })
	s.a.ahead = append(s.a.ahead[:lines+len(newest)], e)
	if e.Time.Sub(s.a.shown) < progressEvery && len(s.a.ahead) < maxAhead {
		return
	}
	s.a.shown = e.Time
	s.r.flush(s.a)
}

func (s *stepSink) log(level slog.Level, message string, attributes map[string]string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := event(s.a.op, Log)
	e.Level, e.Message, e.Attributes = level, message, attributes
	s.line(e)
}

func (s *stepSink) metric(name string, value float64, unit string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := event(s.a.op, Metric)
	e.Name, e.Value, e.Unit = name, value, unit
	s.line(e)
}

// line journals an event, or holds it back for a moment.
func (s *stepSink) line(e Event) {
	s.a.ahead = append(s.a.ahead, e)
	since := e.Time.Sub(s.a.spoken)
	if since >= linesEvery || len(s.a.ahead) >= maxAhead {
		s.r.flush(s.a)
		return
	}
	s.a.later.Reset(linesEvery - since)
}

// record journals the record of a step that goes on; while the journal refuses, the
// step waits, until ctx ends. With advanced, what the step has done it does not do again.
func (s *stepSink) record(ctx context.Context, state json.RawMessage, advanced bool) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.r.persist(ctx, s.a, nil, func() (Operation, []Event) {
		op := s.a.op
		op.State = state
		if advanced {
			s.a.advanced, s.a.kept = true, 0
		}
		return op, nil
	}, nil)
}

// keptEnough is how many bytes more than any time before make a step one that gets on.
const keptEnough = 16 << 20

func (s *stepSink) kept(done, total int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	enough := int64(keptEnough)
	if total > 0 {
		enough = min(enough, max(1, total/16))
	}
	before := s.a.op.Kept
	if s.a.advanced {
		before = max(before, s.a.kept)
	}
	if done >= before+enough {
		s.a.advanced, s.a.kept = true, done
	}
}

type discard struct{}

func (discard) progress(Event)                                      {}
func (discard) log(slog.Level, string, map[string]string)           {}
func (discard) metric(string, float64, string)                      {}
func (discard) kept(int64, int64)                                   {}
func (discard) record(context.Context, json.RawMessage, bool) error { return nil }
