package operation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// watchBatch is how many events a watch reads at a time: what a watcher costs.
const watchBatch = 128

// Get returns one operation.
func (r *Runner) Get(ctx context.Context, id string) (Operation, error) {
	r.mu.Lock()
	if a := r.active; a != nil && a.op.ID == id {
		defer r.mu.Unlock()
		return a.view(), nil
	}
	r.mu.Unlock()
	return r.Journal.Load(ctx, id)
}

// List returns at most limit operations, newest first; with unsettled only
// those that have not ended.
func (r *Runner) List(ctx context.Context, limit int, unsettled bool) ([]Operation, error) {
	ops, err := r.Journal.List(ctx, limit, unsettled)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range ops {
		if a := r.active; a != nil && a.op.ID == ops[i].ID && a.halt != nil {
			ops[i] = a.view()
		}
	}
	return ops, err
}

// Halted reports whether the operation that has not settled is halted.
func (r *Runner) Halted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active != nil && r.active.halt != nil
}

// view is the operation as the journal has it, and whether it is halted. The caller
// holds r.mu.
func (a *active) view() Operation {
	op := a.op
	if a.halt != nil {
		h := *a.halt
		op.Halted = &h
	}
	return op
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
func (r *Runner) Changed() <-chan struct{} { return r.tail.change() }

// Watch yields the events of an operation after a sequence number, each once and
// in order, and ends when the operation has settled. It reads them at the
// consumer's own pace, where that is slow from the journal: a slow one holds up
// nobody. The last pair has an error if the watch ended otherwise: ErrDetached
// when the runner stops.
func (r *Runner) Watch(ctx context.Context, id string, after uint64) iter.Seq2[Event, error] {
	return r.watch(ctx, id, after, false)
}

// Follow is Watch for who wants to know of halts, too. They are not journaled, so that
// a Halting event has the number of the event before it, and comes only to those who
// watch while the operation is halted.
func (r *Runner) Follow(ctx context.Context, id string, after uint64) iter.Seq2[Event, error] {
	return r.watch(ctx, id, after, true)
}

func (r *Runner) watch(ctx context.Context, id string, after uint64, halts bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		defer r.tail.watch()()
		seenHalts, wasHalted := uint64(0), false
		for {
			changed := r.Changed()
			events, end, err := r.next(ctx, id, after)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if halts {
				e, count, isNew := r.tail.haltEvent(id, seenHalts, wasHalted)
				if isNew = isNew && (e.Failure == nil || len(events) == 0); isNew {
					wasHalted = e.Failure != nil
					if !yield(r.withSequence(ctx, e, after), nil) {
						return
					}
				}
				if isNew || e.Failure == nil {
					seenHalts = count
				}
			}
			for _, e := range events {
				after = e.Sequence
				if !yield(e, nil) {
					return
				}
			}
			switch {
			case end && wasHalted: // it has gone on, and ended since
				yield(r.withSequence(ctx, Event{Operation: id, Type: Halting}, after), nil)
				return
			case end:
				return
			case len(events) > 0:
				err = r.sleep(ctx, r.tail.pause(len(events)))
			case r.ctx.Err() != nil:
				err = ErrDetached
			default:
				err = r.await(ctx, changed)
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// withSequence gives a Halting event the number of the event before it, and says where the
// operation stands.
func (r *Runner) withSequence(ctx context.Context, e Event, after uint64) Event {
	e.Sequence = after
	if e.Failure == nil {
		e.Time = utcNow()
		if op, err := r.Get(ctx, e.Operation); err == nil {
			e.Phase, e.Step = op.Phase, op.Step
		}
	}
	return e
}

// next reads one batch of events, from the journal if the tail does not have
// them. With end they are the last ones.
func (r *Runner) next(ctx context.Context, id string, after uint64) (events []Event, end bool, err error) {
	if events, end, ok := r.tail.eventsAfter(id, after); ok {
		return events, end, nil
	}
	op, err := r.Get(ctx, id)
	if err != nil {
		return nil, false, err
	}
	if events, err = r.Journal.Events(ctx, id, after, watchBatch); err != nil {
		return nil, false, fmt.Errorf("read events of %s: %w", id, err)
	}
	end = op.Phase.Settled() && (len(events) == 0 || events[len(events)-1].Sequence >= op.Sequence)
	return events, end, nil
}

// AwaitRequest returns an operation once nothing is to be asked for that it waits for; see
// AskReboot. ErrDetached says that the next runner will ask.
func (r *Runner) AwaitRequest(ctx context.Context, id string) (Operation, error) {
	for {
		changed := r.Changed()
		op, err := r.Get(ctx, id)
		switch {
		case err != nil || !op.RequestOwed:
			return op, err
		case r.ctx.Err() != nil:
			return op, ErrDetached
		}
		if err := r.await(ctx, changed); err != nil {
			return op, err
		}
	}
}

// await returns when something has changed, or the runner stops.
func (r *Runner) await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
	case <-r.ctx.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// sleep waits out a pause, or less when the runner stops.
func (r *Runner) sleep(ctx context.Context, pause time.Duration) error {
	if pause == 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Cancel asks an operation to turn back. It returns at once; the operation goes
// on until what it did is taken back; that is remembered in memory while the journal
// refuses. One that is stuck tries to take back once more, or, in its last step, to do
// that. Past the point of no return, and when it has ended, the error is of kind
// Precondition.
func (r *Runner) Cancel(ctx context.Context, id string) (Operation, error) {
	if err := r.Resumed(ctx); err != nil {
		return Operation{}, err
	}
	op, err := r.Get(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancel(ctx, op)
}

// Preempt cancels the operation that has not settled, if yields says so of it as it
// is at that moment, and waits until what it did is taken back. It returns nil, too,
// when no operation runs or the one that runs does not yield.
func (r *Runner) Preempt(ctx context.Context, yields func(Operation) bool) error {
	if err := r.Resumed(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	a := r.active
	if a == nil || a.kind == nil || a.op.Phase == Undoing || r.isLastStep(a) || !yields(a.op) {
		r.mu.Unlock()
		return nil
	}
	op, err := r.cancel(ctx, a.op)
	r.mu.Unlock()
	for err == nil && !op.Phase.Settled() {
		changed := r.Changed()
		if op, err = r.Get(ctx, op.ID); err != nil || op.Phase.Settled() {
			break
		}
		if r.ctx.Err() != nil {
			return ErrDetached
		}
		err = r.await(ctx, changed)
	}
	return err
}

// cancel is Cancel of an operation that was read. The caller holds r.mu.
func (r *Runner) cancel(ctx context.Context, op Operation) (Operation, error) {
	id := op.ID
	if op.Phase == Stuck && r.stuck == id && r.active == nil {
		return r.retryStuck(ctx, op)
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
	case r.isLastStep(a):
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: it is past its point of no return (%s)", id, a.op.Step)
	}
	next := a.op
	next.Cancelled = true
	if err := r.save(ctx, a, next); err != nil {
		if !a.isRunning {
			return op, fmt.Errorf("cancel operation %s: %w", id, err)
		}
		// The next that is journaled says it, and until then this process knows.
		r.Logger.Warn("a cancel is not journaled yet", "operation", id, "error", err)
		a.op = next
	}
	if a.isRunning {
		a.cancel(errCancelled)
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return a.view(), nil
}

// retryStuck sets a stuck operation to taking back again. The caller holds r.mu.
func (r *Runner) retryStuck(ctx context.Context, op Operation) (Operation, error) {
	k, ok := r.kinds[op.Kind]
	if !ok {
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: this version of Trident does not know how to take it back", op.ID)
	}
	if err := r.markUnsettled(true); err != nil {
		return op, err
	}
	op.Phase = Undoing
	if steps := k.steps(); op.Step == steps[len(steps)-1] { // see ErrDecided
		op.Phase, op.Failure, op.Reached, op.Cancelled = Doing, nil, "", false
	}
	op.resetStepCounts()
	a := &active{op: op, kind: k}
	if err := r.save(ctx, a, op, newChange(op)); err != nil {
		return op, errors.Join(fmt.Errorf("cancel operation %s: %w", op.ID, err), r.markUnsettled(false))
	}
	r.active, r.stuck = a, ""
	r.launch(a)
	return a.op, nil
}
