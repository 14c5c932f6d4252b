package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// loop runs steps until the operation has settled or waits, or the runner stops.
func (r *Runner) loop(ctx context.Context, a *active) {
	if a.pending != nil && r.journalPending(a) {
		return
	}
	for r.ctx.Err() == nil && r.awaitContinue(ctx, a) && !r.runStep(ctx, a) {
	}
}

// journalPending journals what Resume could not journal. It reports whether the
// loop ends.
func (r *Runner) journalPending(a *active) (stop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := a.pending
	a.pending = nil
	if err := r.persist(r.ctx, a, nil, pending, nil); err != nil {
		return true
	}
	return r.releaseIfSettled(a)
}

// runStep runs Do or Undo of the current step and journals the outcome. It reports
// whether the loop ends.
func (r *Runner) runStep(ctx context.Context, a *active) (stop bool) {
	r.mu.Lock() // Cancel writes to it
	op, undo, last := a.op, a.op.Phase == Undoing, r.isLastStep(a)
	r.mu.Unlock()
	if undo || last { // an Undo and the last step cannot be cancelled
		ctx = r.ctx
	}
	s := &stepSink{r: r, a: a}
	state, err := a.kind.call(ctx, op.Step, undo, op.ID, op.State, s)
	if errkind.Of(err) == errkind.NoSpace && undo && !isWait(err) {
		state, err = r.retryUndo(a, op.Step, state, err, s)
	}
	if err != nil && r.ctx.Err() != nil && !isWait(err) {
		return true // the runner stops: the journal still names this step
	}
	var reboot *rebootRequest
	owed := errors.As(err, &reboot)
	if errors.Is(context.Cause(ctx), errCancelled) && !undo && (owed || !isWait(err)) {
		err, owed = errCancelled, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := outcome{state: state, isUndo: undo, isLast: last, err: err, isRequestOwed: owed}
	stop = r.journalOutcome(a, e)
	if !a.op.RequestOwed || r.ctx.Err() != nil {
		return stop
	}
	return r.requestReboot(a, e, reboot.request)
}

// retryUndo calls an Undo that failed for want of space until it does not, or the
// runner stops: a full disk alone must not leave an operation stuck.
func (r *Runner) retryUndo(a *active, step string, state json.RawMessage, err error, s sink) (json.RawMessage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for try := 0; errkind.Of(err) == errkind.NoSpace && r.ctx.Err() == nil && !isWait(err); try++ {
		r.halt(a, try, fmt.Errorf("%s: %w", stepName(step, true), err))
		if r.pauseBeforeRetry(r.ctx, a, try); r.ctx.Err() != nil {
			break
		}
		r.mu.Unlock()
		state, err = a.kind.call(r.ctx, step, true, a.op.ID, state, s)
		r.mu.Lock()
	}
	r.endHalt(a)
	return state, err
}

// stepName names a step and its direction in an error.
func stepName(step string, undo bool) string {
	if undo {
		return "undo " + step
	}
	return step
}

// An outcome is how a call of a step ended.
type outcome struct {
	state          json.RawMessage
	isUndo, isLast bool
	err            error
	isRequestOwed  bool
}

// journalOutcome journals the state of the operation after a step. While the
// journal refuses, a.op stays as it is in the journal. It reports whether the loop
// ends. The caller holds r.mu.
func (r *Runner) journalOutcome(a *active, e outcome) (stop bool) {
	r.flush(a)
	next := func() (Operation, []Event) {
		op, err := a.op, e.err
		op.State, op.Waiting, op.WaitID, op.RequestOwed = e.state, "", "", e.isRequestOwed
		if op.Cancelled && !e.isUndo && !e.isLast && (err == nil || e.isRequestOwed) { // cancelled after the step ended
			err, op.RequestOwed = errCancelled, false
		}
		op, events := r.nextState(a, op, err)
		if op.Phase == Done || op.Phase == Undone {
			op.State = withoutSecrets(op.State)
		}
		return op, events
	}
	var freeSpace func() error
	if !e.isUndo && !isWait(e.err) {
		freeSpace = r.freeSpace(a, e)
	}
	if err := r.persist(r.ctx, a, e.err, next, freeSpace); err != nil {
		return true
	}
	return r.releaseIfSettled(a)
}

// releaseIfSettled releases an operation that has settled, and reports whether the
// loop ends. The caller holds r.mu.
func (r *Runner) releaseIfSettled(a *active) (stop bool) {
	if a.op.Phase.Settled() {
		r.release(a)
		return true
	}
	return a.op.Waiting != "" && a.op.Waiting != Continue && !a.op.RequestOwed
}

// requestReboot calls the step's request once the journal says that the operation
// waits. It reports whether the loop ends. The caller holds r.mu, which is
// released meanwhile.
func (r *Runner) requestReboot(a *active, e outcome, ask func(context.Context) error) (stop bool) {
	r.mu.Unlock()
	err := recoverPanic(func() error { return ask(r.ctx) })
	r.mu.Lock()
	if err != nil && r.ctx.Err() != nil {
		return true // the next runner requests the reboot
	}
	if err != nil {
		e.err, e.isRequestOwed, e.state = err, false, a.op.State
		return r.journalOutcome(a, e)
	}
	_ = r.persist(r.ctx, a, nil, func() (Operation, []Event) { // if this fails, the next runner requests the reboot again
		op := a.op
		op.RequestOwed = false
		return op, nil
	}, nil)
	return true
}

func isWait(err error) bool { return errors.Is(err, ErrRestart) || errors.Is(err, ErrReboot) }

func (r *Runner) isLastStep(a *active) bool { return a.op.Step == a.op.Plan[len(a.op.Plan)-1] }

// nextState returns the operation after a step that ended with err, and the events
// of that.
func (r *Runner) nextState(a *active, op Operation, err error) (Operation, []Event) {
	a.hasAdvanced = false
	ended := r.stepDuration(a, op, err)
	r.advanceOrTurn(a.kind, &op, err)
	return op, append(ended, newChange(op))
}

// advanceOrTurn changes op to the state after a step that ended with err: the next
// step, a wait, the way back, or the end.
func (r *Runner) advanceOrTurn(k kind, op *Operation, err error) {
	if !isWait(err) { // a step that waits has not ended
		op.resetStepCounts()
	}
	switch {
	case errors.Is(err, ErrRestart):
		op.Waiting, op.WaitID = Restart, r.Life.Process
	case errors.Is(err, ErrReboot):
		op.Waiting, op.WaitID = Reboot, r.Life.Boot
	case err == nil && op.Phase == Doing && op.PauseBefore != "" && nextStep(k, *op) == op.PauseBefore:
		op.Waiting, op.PauseBefore = Continue, ""
	case err == nil:
		advance(k, op)
	case op.Phase == Doing:
		op.Phase, op.Reached, op.Failure = Undoing, op.Step, failureOf(fmt.Errorf("%s: %w", op.Step, err))
	default:
		op.Phase = Stuck
		f := *op.Failure // the journaled operation keeps its own copy
		f.Message = fmt.Sprintf("%s; undo %s: %v", f.Message, op.Step, err)
		op.Failure = &f
	}
}

// resetStepCounts starts the counts of a step that begins for the first time.
func (o *Operation) resetStepCounts() { o.StepBegan, o.Begins, o.Stops, o.Kept = utcNow(), 1, 0, 0 }

// advance moves op to the next step with a Do, or on the way back with an Undo,
// and else to the end.
func advance(k kind, op *Operation) {
	if next := nextStep(k, *op); next != "" {
		op.Step = next
	} else if op.Phase == Undoing {
		op.Phase = Undone
	} else {
		op.Phase = Done
	}
}

// nextStep returns the step after that of op in its direction; "" at the end.
func nextStep(k kind, op Operation) string {
	names, by := k.steps(), 1
	undo := op.Phase == Undoing
	if undo {
		by = -1
	}
	for at := slices.Index(names, op.Step) + by; at >= 0 && at < len(names); at += by {
		if k.hasWork(names[at], undo) {
			return names[at]
		}
	}
	return ""
}

// save journals the operation with new events, all or none, and wakes the
// watchers. The caller holds r.mu.
func (r *Runner) save(ctx context.Context, a *active, op Operation, events ...Event) error {
	for i := range events {
		op.Sequence++
		op.Updated = events[i].Time
		events[i].Sequence = op.Sequence
	}
	if a.hasAdvanced {
		op.Begins, op.Stops, op.Kept = 1, 0, a.keptProgress
	}
	if err := r.Journal.Save(ctx, op, events...); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	a.hasAdvanced = false
	before := a.op.Failure
	a.op = op
	r.publish(op, before, events)
	r.tail.add(op, events)
	return nil
}

func newEvent(op Operation, t EventType) Event {
	return Event{Operation: op.ID, Time: utcNow(), Phase: op.Phase, Step: op.Step, Type: t}
}

func newChange(op Operation) Event {
	e := newEvent(op, Change)
	e.Waiting, e.Failure = op.Waiting, op.Failure
	return e
}

// release forgets the active operation, which has ended. The caller holds r.mu.
func (r *Runner) release(a *active) {
	r.active = nil
	if a.op.Phase == Stuck {
		r.stuck = a.op.ID
	} else if r.stuck == a.op.ID {
		r.stuck = ""
	}
	r.tail.broadcast()
	if err := r.markUnsettled(false); err != nil { // the next Resume retries
		r.Logger.Warn("cannot remove the mark of the unsettled operation", "operation", a.op.ID, "error", err)
	}
}

func (r *Runner) markUnsettled(is bool) error {
	if r.Config.Unsettled == nil {
		return nil
	}
	return r.Config.Unsettled(is)
}
