package operation

import (
	"context"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
)

type pauseKey struct{}

// WithPause has an operation that begins with the context pause before a step, which must not
// be the first one. The operation goes on after [Runner.Continue]; [Runner.Cancel] undoes it.
// It stays paused when the daemon restarts and when the host reboots.
func WithPause(ctx context.Context, step string) context.Context {
	return context.WithValue(ctx, pauseKey{}, step)
}

func pauseOf(ctx context.Context) string {
	step, _ := ctx.Value(pauseKey{}).(string)
	return step
}

// Continue has a paused operation go on, and returns at once. An operation that is not paused
// is an error of kind Precondition.
func (r *Runner) Continue(ctx context.Context, id string) (Operation, error) {
	if err := r.Resumed(ctx); err != nil {
		return Operation{}, err
	}
	if op, err := r.Get(ctx, id); err != nil {
		return op, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active
	if a == nil || a.kind == nil || a.op.ID != id || a.op.Waiting != Continue || a.op.Cancelled {
		return Operation{}, errkind.Errorf(errkind.Precondition, "continue operation %s: the operation is not paused", id)
	}
	op := a.op
	op.Waiting = ""
	op.resetStepCounts()
	advance(a.kind, &op)
	if err := r.save(ctx, a, op, newChange(op)); err != nil {
		return Operation{}, fmt.Errorf("continue operation %s: %w", id, err)
	}
	a.wakeUp()
	return a.view(), nil
}

// awaitContinue waits while the operation is paused. It reports whether the loop goes on.
func (r *Runner) awaitContinue(ctx context.Context, a *active) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a.op.Waiting == Continue && !a.op.Cancelled {
		r.mu.Unlock()
		select {
		case <-a.wake:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if r.ctx.Err() != nil {
			return false
		}
	}
	if a.op.Waiting != Continue {
		return true
	}
	return r.persist(r.ctx, a, nil, func() (Operation, []Event) {
		op := a.op
		op.Waiting = ""
		r.advanceOrTurn(a.kind, &op, errCancelled)
		return op, []Event{newChange(op)}
	}, nil) == nil
}
