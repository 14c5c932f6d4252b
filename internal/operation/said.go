package operation

import (
	"context"
	"encoding/json"
	"fmt"
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
	err := r.save(context.WithoutCancel(r.ctx), a, held...)
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
	e := s.r.event(s.a, Progress)
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
	e := s.r.event(s.a, Log)
	e.Level, e.Message, e.Attributes = level, message, attributes
	s.line(e)
}

func (s *stepSink) metric(name string, value float64, unit string) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	e := s.r.event(s.a, Metric)
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

func (s *stepSink) record(ctx context.Context, state json.RawMessage) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	op := s.a.op
	op.State = state
	if err := s.r.Journal.Save(ctx, op); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	s.a.op = op
	return nil
}

type discard struct{}

func (discard) progress(Event)                                {}
func (discard) log(slog.Level, string, map[string]string)     {}
func (discard) metric(string, float64, string)                {}
func (discard) record(context.Context, json.RawMessage) error { return nil }
