package operation

import (
	"context"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Resume reads the journal and resumes the unsettled operation, if there is one.
// It leaves an operation alone whose kind or step this version does not know:
// another version may know it. Calls that begin or cancel operations wait until
// Resume has returned nil. Operations that are read earlier are as the previous
// daemon left them; see Resumed.
func (r *Runner) Resume(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.resumeOperation(ctx); err != nil {
		return err
	}
	r.markResumed()
	return nil
}

func (r *Runner) resumeOperation(ctx context.Context) error {
	op, err := r.unsettledOperation(ctx)
	if err != nil {
		return err
	}
	if op != nil {
		r.active = &active{op: *op}
	}
	last, err := r.Journal.List(ctx, 1, false)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	if len(last) > 0 && last[0].Phase == Stuck {
		r.stuck = last[0].ID
	}
	a := r.active
	// A missing mark does not prevent the operation from being resumed.
	if err := r.markUnsettled(a != nil); err != nil {
		r.Logger.Warn("cannot change the mark of unsettled operations", "error", err)
	}
	if a == nil {
		return nil
	}
	k, ok := r.kinds[a.op.Kind]
	if !ok || !slices.Contains(k.steps(), a.op.Step) {
		r.Logger.Error("this version cannot resume an operation", "operation", a.op.ID, "kind", a.op.Kind, "step", a.op.Step)
		return nil
	}
	a.kind, a.op.Plan = k, k.steps()
	r.resumeStep(ctx, a)
	return nil
}

// resumeStep resumes the operation of an earlier runner, unless the operation has
// to wait on. It journals the next state, or, if the journal refuses, has the
// operation's goroutine do so.
func (r *Runner) resumeStep(ctx context.Context, a *active) {
	switch {
	case a.op.Waiting == Continue:
		r.launch(a)
		return
	case a.op.Waiting != "" && a.op.WaitID != r.lifeID(a.op.Waiting):
		a.pending = func() (Operation, []Event) {
			op := a.op
			ended := r.stepDuration(a, op, nil)
			op.Waiting, op.WaitID, op.RequestOwed = "", "", false
			op.resetStepCounts()
			advance(a.kind, &op)
			return op, append(ended, newChange(op))
		}
	case a.op.Waiting != "" && !a.op.RequestOwed:
		return
	default:
		a.pending = func() (Operation, []Event) { return r.restartStep(a) }
	}
	op, events := a.pending()
	if r.save(ctx, a, op, events...) == nil {
		a.pending = nil
		if a.op.Phase.Settled() {
			r.release(a)
			return
		}
	}
	r.launch(a)
}

// tooManyBegins returns the error of a step that has begun too often, or nil.
func (o Operation) tooManyBegins() error {
	var err error
	switch ends := o.Begins - o.Stops; {
	case ends >= maxCrashes:
		err = errkind.Errorf(errkind.Internal, "Trident ended %d times in this step before the step was finished", ends)
	case o.Begins >= maxBegins:
		err = errkind.Errorf(errkind.Internal, "this step began %d times, and Trident stopped each time before the step was finished", o.Begins)
	default:
		return nil
	}
	return errkind.WithHint(err, "The journal says how Trident ended: journalctl -u tridentd")
}

// restartStep returns the operation with its step begun again, or failed if the
// step has begun too often. The caller holds r.mu.
func (r *Runner) restartStep(a *active) (Operation, []Event) {
	op := a.op
	if err := op.tooManyBegins(); err != nil {
		op.Waiting, op.WaitID, op.RequestOwed = "", "", false
		return r.nextState(a, op, err)
	}
	op.Begins++
	r.Logger.Warn("a step is begun again", "operation", op.ID, "step", op.Step, "phase", op.Phase, "times", op.Begins)
	return op, nil
}

// Resumed waits for Resume. It returns nil once Resume has worked, the error of
// Refuse, or ErrDetached if the runner stops before.
func (r *Runner) Resumed(ctx context.Context) error {
	if err := r.await(ctx, r.resumed); err != nil {
		return err
	}
	select {
	case <-r.resumed:
		if refusal := r.refusal.Load(); refusal != nil {
			return *refusal
		}
		return nil
	default:
		return ErrDetached
	}
}
