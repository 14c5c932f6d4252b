package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// A Run is a step's view of its operation.
type Run[S any] struct {
	// ID is the ID of the operation.
	ID string
	// State is the operation's record. The runner journals it when the step returns.
	State S

	originalState json.RawMessage
	events        sink
	save          func(ctx context.Context, advanced bool) error // replaces Save; see Sub
}

// Rehearse returns a Run outside of any operation, so that a plan can call what a step
// calls. log receives the log events; progress and metrics are dropped, and nothing is
// journaled.
func Rehearse[S any](id string, state S, log func(slog.Level, string)) *Run[S] {
	return &Run[S]{ID: id, State: state, events: rehearsal(log), save: func(context.Context, bool) error { return nil }}
}

type rehearsal func(slog.Level, string)

func (rehearsal) progress(Event)                                      {}
func (r rehearsal) log(l slog.Level, m string, _ map[string]string)   { r(l, m) }
func (rehearsal) metric(string, float64, string)                      {}
func (rehearsal) kept(int64, int64)                                   {}
func (rehearsal) record(context.Context, json.RawMessage, bool) error { return nil }

// A sink receives the events of a running step. Its methods are safe for
// concurrent use.
type sink interface {
	progress(e Event)
	log(level slog.Level, message string, attributes map[string]string)
	metric(name string, value float64, unit string)
	// kept reports how many bytes are done for good. It is journaled with the next
	// event.
	kept(done, total int64)
	record(ctx context.Context, state json.RawMessage, advanced bool) error
}

// Progress tells watchers how many bytes of the step are done; total is 0 if it is
// not known. A step may call it as often as it likes.
func (r *Run[S]) Progress(done, total int64) { r.events.progress(Event{Done: done, Total: total}) }

// ProgressPart is Progress for a step that works on several parts side by side:
// how many bytes of one part are done, and of the whole step. part is a name for
// people, such as the id of a partition. The parts are few: they come from a
// configuration.
func (r *Run[S]) ProgressPart(part string, done, total, allDone, allTotal int64) {
	r.events.progress(Event{Done: allDone, Total: allTotal, Part: part, PartDone: done, PartTotal: total})
}

// Logf logs a message for watchers and the journal. A step may log as much as it
// likes: a burst is journaled and shown a moment later.
func (r *Run[S]) Logf(level slog.Level, format string, args ...any) {
	r.events.log(level, fmt.Sprintf(format, args...), nil)
}

// ProgressKept is Progress for a step that resumes where it stopped. As long as
// such a step advances each time, it may begin any number of times.
func (r *Run[S]) ProgressKept(done, total int64) {
	r.events.kept(done, total)
	r.Progress(done, total)
}

// Save journals State before the step returns. While the journal refuses, the
// operation is halted, and Save returns an error only when ctx ends.
func (r *Run[S]) Save(ctx context.Context) error { return r.record(ctx, false) }

// Checkpoint is Save for a step that resumes from here, and that has advanced
// further than before.
func (r *Run[S]) Checkpoint(ctx context.Context) error { return r.record(ctx, true) }

func (r *Run[S]) record(ctx context.Context, advanced bool) error {
	if r.save != nil {
		return r.save(ctx, advanced)
	}
	raw, err := r.marshal()
	if err != nil {
		return err
	}
	return r.events.record(ctx, raw, advanced)
}

// marshal writes the fields that S knows over the original record. Fields of a
// newer version stay as they are, in the record and in its parts (see Sub). So a
// record must not have maps: marshal would restore an entry that a step deleted.
func (r *Run[S]) marshal() (json.RawMessage, error) {
	known, err := json.Marshal(r.State)
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	all, err := overlay(r.originalState, known, 2)
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	return all, nil
}

// overlay writes the fields of one object over those of another, and does the same
// in fields that are objects, levels deep.
func overlay(under, over json.RawMessage, levels int) (json.RawMessage, error) {
	if levels == 0 || !isObject(under) || !isObject(over) {
		return over, nil
	}
	all, fields := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	err := errors.Join(json.Unmarshal(under, &all), json.Unmarshal(over, &fields))
	for k, v := range fields {
		var ferr error
		all[k], ferr = overlay(all[k], v, levels-1)
		err = errors.Join(err, ferr)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// kind is a Kind without its type parameter.
type kind interface {
	steps() []string
	// hasWork reports whether the step has a Do, or with undo an Undo.
	hasWork(step string, undo bool) bool
	// call runs Do or Undo of a step over a record and returns the changed record.
	call(ctx context.Context, step string, undo bool, id string, state json.RawMessage, out sink) (json.RawMessage, error)
}

func (k Kind[S]) steps() []string {
	names := make([]string, len(k.Steps))
	for i, s := range k.Steps {
		names[i] = s.Name
	}
	return names
}

func (k Kind[S]) step(name string) Step[S] {
	return k.Steps[slices.IndexFunc(k.Steps, func(s Step[S]) bool { return s.Name == name })]
}

func (k Kind[S]) hasWork(step string, undo bool) bool {
	s := k.step(step)
	return (undo && s.Undo != nil) || (!undo && s.Do != nil)
}

func (k Kind[S]) call(ctx context.Context, step string, undo bool, id string, state json.RawMessage, out sink) (json.RawMessage, error) {
	run := &Run[S]{ID: id, originalState: state, events: out}
	if err := json.Unmarshal(state, &run.State); err != nil {
		return state, fmt.Errorf("read record: %w", err)
	}
	fn := k.step(step).Do
	if undo {
		fn = k.step(step).Undo
	}
	if fn == nil {
		return state, nil
	}
	err := recoverPanic(func() error { return fn(context.WithValue(ctx, insistKey{}, out), run) })
	after, merr := run.marshal()
	if merr != nil {
		return state, errors.Join(err, merr)
	}
	return after, err
}

// recoverPanic calls f and returns a panic of f as an error: the operation is
// undone, instead of a daemon that crashes at the same step again and again.
func recoverPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errkind.Errorf(errkind.Internal, "panic: %v", p)
		}
	}()
	return f()
}
