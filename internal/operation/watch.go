package operation

import (
	"context"
	"fmt"
	"iter"

	"github.com/trident-project/trident/internal/errkind"
)

// watchBatch is how many events a watch reads at a time: what a watcher costs.
const watchBatch = 128

// Get returns one operation.
func (r *Runner) Get(ctx context.Context, id string) (Operation, error) {
	r.mu.Lock()
	if a := r.active; a != nil && a.op.ID == id {
		defer r.mu.Unlock()
		return a.op, nil
	}
	r.mu.Unlock()
	return r.Journal.Load(ctx, id)
}

// List returns at most limit operations, newest first; with unsettled only
// those that have not ended.
func (r *Runner) List(ctx context.Context, limit int, unsettled bool) ([]Operation, error) {
	return r.Journal.List(ctx, limit, unsettled)
}

// Active returns the ID of the operation that has not settled, if there is one.
func (r *Runner) Active() (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active == nil {
		return "", false
	}
	return r.active.op.ID, true
}

// Changed returns a channel that is closed when something next happens to any
// operation.
func (r *Runner) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Watch yields the events of an operation after a sequence number, each once and
// in order, and ends when the operation has settled. It reads them from the
// journal at the consumer's own pace: a slow one holds up nobody. The last pair
// has an error if the watch ended otherwise: ErrDetached when the runner stops.
func (r *Runner) Watch(ctx context.Context, id string, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			changed := r.Changed()
			op, err := r.Get(ctx, id)
			if err != nil {
				yield(Event{}, err)
				return
			}
			more, err := r.pass(ctx, id, &after, yield)
			switch {
			case err != nil:
				yield(Event{}, err)
				return
			case !more:
				return
			case after < op.Sequence:
				continue
			case op.Phase.Settled():
				return
			case r.ctx.Err() != nil:
				yield(Event{}, ErrDetached)
				return
			}
			select {
			case <-changed:
			case <-r.ctx.Done():
			case <-ctx.Done():
				yield(Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// pass yields one batch of events. more is false when the consumer has enough.
func (r *Runner) pass(ctx context.Context, id string, after *uint64, yield func(Event, error) bool) (more bool, err error) {
	events, err := r.Journal.Events(ctx, id, *after, watchBatch)
	if err != nil {
		return false, fmt.Errorf("read events of %s: %w", id, err)
	}
	for _, e := range events {
		*after = e.Sequence
		if !yield(e, nil) {
			return false, nil
		}
	}
	return true, nil
}

// Cancel asks an operation to turn back. It returns at once; the operation goes
// on until what it did is taken back. One that is stuck tries to take back once
// more. Past the point of no return, and when it has ended, the error is of kind
// Precondition.
func (r *Runner) Cancel(ctx context.Context, id string) (Operation, error) {
	op, err := r.Get(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if op.Phase == Stuck && r.stuck == id && r.active == nil {
		return r.unstick(ctx, op)
	}
	a := r.active
	if a == nil || a.op.ID != id {
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: it has ended (%s)", id, op.Phase)
	}
	switch {
	case a.kind == nil:
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: this version of Trident does not know how to take it back", id)
	case a.op.Phase == Undoing:
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: it is being taken back already", id)
	case r.last(a):
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: it is past its point of no return (%s)", id, a.op.Step)
	}
	next := a.op
	next.Cancelled = true
	if err := r.Journal.Save(ctx, next); err != nil {
		return op, fmt.Errorf("cancel operation %s: write journal: %w", id, err)
	}
	a.op = next
	switch {
	case a.running:
		a.cancel(errCancelled)
	case a.op.Waiting == "": // halted by its journal
		r.launch(a)
	}
	return a.op, nil
}

// unstick sets a stuck operation to taking back again. The caller holds r.mu.
func (r *Runner) unstick(ctx context.Context, op Operation) (Operation, error) {
	k, ok := r.kinds[op.Kind]
	if !ok {
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: this version of Trident does not know how to take it back", op.ID)
	}
	if err := r.unsettled(true); err != nil {
		return op, err
	}
	op.Phase, op.StepBegan = Undoing, now()
	a := &active{op: op, kind: k}
	if err := r.save(ctx, a, r.change(a)); err != nil {
		return op, err
	}
	r.active, r.stuck = a, ""
	r.launch(a)
	return a.op, nil
}
