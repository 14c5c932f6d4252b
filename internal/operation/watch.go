package operation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// watchBatch is how many events a watcher reads at a time; it bounds the memory of
// a watcher.
const watchBatch = 128

// Get returns an operation, or an error of kind NotFound.
func (r *Runner) Get(ctx context.Context, id string) (Operation, error) {
	r.mu.Lock()
	if a := r.active; a != nil && a.op.ID == id {
		defer r.mu.Unlock()
		return a.view(), nil
	}
	r.mu.Unlock()
	return r.Journal.Load(ctx, id)
}

// List returns at most limit operations, newest first; with unsettled only those
// that have not settled.
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

// Halted reports whether the active operation is halted.
func (r *Runner) Halted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active != nil && r.active.halt != nil
}

// view returns the operation as in the journal, with its halt. The caller holds
// r.mu.
func (a *active) view() Operation {
	op := a.op
	if a.halt != nil {
		h := *a.halt
		op.Halted = &h
	}
	return op
}

// Active returns the ID of the unsettled operation, if there is one.
func (r *Runner) Active() (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active == nil {
		return "", false
	}
	return r.active.op.ID, true
}

// Irrevocable returns the ID of the unsettled operation if it is past its point of no return,
// where Cancel refuses it for that.
func (r *Runner) Irrevocable() (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active
	if a == nil || a.kind == nil || a.op.Phase != Doing || !r.isLastStep(a) {
		return "", false
	}
	return a.op.ID, true
}

// Changed returns a channel that is closed at the next change of any operation.
func (r *Runner) Changed() <-chan struct{} { return r.tail.change() }

// Watch yields the events of an operation after a sequence number, each once and
// in order, and ends when the operation has settled. A slow consumer reads from
// the journal and holds up nobody. If the watch ends otherwise, the last pair has
// an error: ErrDetached when the runner stops.
func (r *Runner) Watch(ctx context.Context, id string, after uint64) iter.Seq2[Event, error] {
	return r.watch(ctx, id, after, false)
}

// Follow is Watch with Halting events. These are not journaled: a Halting event
// has the sequence number of the event before it, and only watchers at the time of
// the halt see it.
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
			case end && wasHalted: // the halt and the operation have ended meanwhile
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

// withSequence gives a Halting event the sequence number of the event before it,
// and the operation's phase and step.
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

// next reads one batch of events, from the journal if the tail does not have them.
// end says that they are the last ones.
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

// AwaitRequest returns an operation once the runner has requested the reboot that
// the operation waits for; see RequestReboot. ErrDetached means that the next
// runner will request it.
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

// await returns when changed is closed, the runner stops, or ctx ends.
func (r *Runner) await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
	case <-r.ctx.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// sleep waits for pause, or until the runner stops or ctx ends.
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

// Cancel has an operation undo its steps, and returns at once; the operation runs
// on until it is undone. While the journal refuses, the request is in memory only.
// A stuck operation retries its undo, or, in its last step, that step. Past the
// point of no return, and after the end, the error is of kind Precondition.
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

// Preempt cancels the active operation if yields returns true for it, and waits
// until the operation is undone. It returns nil if no operation is active or the
// active one does not yield.
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

// cancel cancels an operation that the caller has read. The caller holds r.mu.
func (r *Runner) cancel(ctx context.Context, op Operation) (Operation, error) {
	id := op.ID
	if op.Phase == Stuck && r.stuck == id && r.active == nil {
		return r.retryStuck(ctx, op)
	}
	a := r.active
	if a == nil || a.op.ID != id {
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: the operation has ended (%s)", id, op.Phase)
	}
	switch {
	case a.kind == nil:
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: this version of Trident cannot undo the operation", id)
	case a.op.Phase == Undoing:
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: the operation is being undone already", id)
	case r.isLastStep(a):
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: the operation is past its point of no return (%s)", id, a.op.Step)
	}
	next := a.op
	next.Cancelled = true
	if err := r.save(ctx, a, next); err != nil {
		if !a.isRunning {
			return op, fmt.Errorf("cancel operation %s: %w", id, err)
		}
		// The next save journals the cancel. Until then it is in memory.
		r.Logger.Warn("cannot journal a cancel yet", "operation", id, "error", err)
		a.op = next
	}
	if a.isRunning {
		a.cancel(errCancelled)
		a.wakeUp()
	}
	return a.view(), nil
}

// retryStuck has a stuck operation retry its undo. The caller holds r.mu.
func (r *Runner) retryStuck(ctx context.Context, op Operation) (Operation, error) {
	k, ok := r.kinds[op.Kind]
	if !ok {
		return op, errkind.Errorf(errkind.Precondition, "cancel operation %s: this version of Trident cannot undo the operation", op.ID)
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
