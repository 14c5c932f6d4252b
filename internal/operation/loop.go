package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// saveTries is how often a journal that refuses (a full disk) is tried again.
const saveTries = 5

// loop runs steps until the operation settles or waits, or the runner stops.
func (r *Runner) loop(ctx context.Context, a *active) error {
	for r.ctx.Err() == nil {
		stop, err := r.turn(ctx, a)
		if err != nil || stop {
			return err
		}
	}
	return nil
}

// turn runs one step, forwards or backwards, and journals where that leads.
func (r *Runner) turn(ctx context.Context, a *active) (stop bool, err error) {
	r.mu.Lock() // Cancel writes to it
	op, undo, last := a.op, a.op.Phase == Undoing, r.last(a)
	r.mu.Unlock()
	if undo || last { // neither what is taken back nor the last step is cancelled
		ctx = r.ctx
	}
	s := &stepSink{r: r, a: a}
	state, err := a.kind.call(ctx, op.Step, undo, op.ID, op.State, s)
	if err != nil && r.ctx.Err() != nil && !waits(err) {
		return true, nil // stopped half-way: the journal still says "this step"
	}
	var reboot *asking
	owed := errors.As(err, &reboot)
	if errors.Is(context.Cause(ctx), errCancelled) && !undo && (owed || !waits(err)) {
		err, owed = errCancelled, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.op.State, a.op.Waiting, a.op.WaitID, a.op.Owed = state, "", "", owed
	stop, err = r.land(ctx, a, undo, err)
	if !owed || err != nil {
		return stop, err
	}
	return r.ask(ctx, a, undo, reboot.ask)
}

// land journals where a step that ended with err leads. The caller holds r.mu.
func (r *Runner) land(ctx context.Context, a *active, undo bool, err error) (stop bool, _ error) {
	r.flush(a)
	ended := r.ended(a, undo, err)
	r.move(a, err)
	if err := r.saveOrFree(ctx, a, err, ended); err != nil {
		return true, err
	}
	if a.op.Phase.Settled() {
		return true, r.settled(a)
	}
	return a.op.Waiting != "", nil
}

// ask asks for what the journal says is waited for. The caller holds r.mu, which is
// let go of meanwhile.
func (r *Runner) ask(ctx context.Context, a *active, undo bool, ask func(context.Context) error) (stop bool, err error) {
	r.mu.Unlock()
	err = safely(func() error { return ask(r.ctx) })
	r.mu.Lock()
	if err != nil && r.ctx.Err() != nil {
		return true, nil // it is owed still
	}
	a.op.Owed = false
	if err != nil {
		a.op.Waiting, a.op.WaitID = "", ""
		return r.land(ctx, a, undo, err)
	}
	return true, r.save(context.WithoutCancel(ctx), a)
}

func waits(err error) bool { return errors.Is(err, ErrRestart) || errors.Is(err, ErrReboot) }

func (r *Runner) last(a *active) bool { return a.op.Step == a.op.Plan[len(a.op.Plan)-1] }

// move works out where a step that ended with err leads.
func (r *Runner) move(a *active, err error) {
	op := &a.op
	if !waits(err) {
		op.StepBegan = now()
	}
	switch {
	case errors.Is(err, ErrRestart):
		op.Waiting, op.WaitID = Restart, r.Life.Process
	case errors.Is(err, ErrReboot):
		op.Waiting, op.WaitID = Reboot, r.Life.Boot
	case err == nil:
		r.advance(a)
	case op.Phase == Doing:
		op.Phase, op.Reached, op.Failure = Undoing, op.Step, failureOf(fmt.Errorf("%s: %w", op.Step, err))
	default:
		op.Phase = Stuck
		op.Failure.Message = fmt.Sprintf("%s; take back %s: %v", op.Failure.Message, op.Step, err)
	}
}

// advance moves on in the operation's direction, to the next step that has
// something to do there.
func (r *Runner) advance(a *active) {
	op, names, by := &a.op, a.kind.steps(), 1
	undo := op.Phase == Undoing
	if undo {
		by = -1
	}
	for at := slices.Index(names, op.Step) + by; at >= 0 && at < len(names); at += by {
		if a.kind.acts(names[at], undo) {
			op.Step = names[at]
			return
		}
	}
	op.Phase = Done
	if undo {
		op.Phase = Undone
	}
}

// saveOrFree journals the move that a step ended with. Where the journal refuses
// after a failure, the likely reason is a disk that the step itself has filled.
// Its Undo may run then without being journaled: a crash in it means that the
// step is done again, which it has to bear in any case. The caller holds r.mu,
// which is let go of in between.
func (r *Runner) saveOrFree(ctx context.Context, a *active, stepErr error, ended []Event) error {
	ctx = context.WithoutCancel(ctx)
	err := r.save(ctx, a, append(ended, r.change(a))...)
	for try := 0; err != nil && try < saveTries && r.ctx.Err() == nil; try++ {
		r.mu.Unlock()
		if stepErr != nil && a.op.Phase == Undoing {
			r.freeSpace(ctx, a)
		}
		timer := time.NewTimer(time.Duration(try) * 200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			timer.Stop()
		}
		r.mu.Lock()
		err = r.save(ctx, a, append(ended, r.change(a))...)
	}
	return err
}

// freeSpace runs the Undo of the step that failed; what it has to say, and
// whether it works, comes out when it is run again.
func (r *Runner) freeSpace(ctx context.Context, a *active) {
	if _, err := a.kind.call(ctx, a.op.Step, true, a.op.ID, a.op.State, discard{}); err != nil {
		r.Logger.Warn("free space", "operation", a.op.ID, "error", err)
	}
}

// save journals the operation with new events, all or none, and tells the
// watchers. The caller holds r.mu.
func (r *Runner) save(ctx context.Context, a *active, events ...Event) error {
	op := a.op
	for i := range events {
		op.Sequence++
		op.Updated = events[i].Time
		events[i].Sequence = op.Sequence
	}
	if err := r.Journal.Save(ctx, op, events...); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	a.op = op
	r.observe(op, events)
	r.tail.add(op, events)
	return nil
}

func (r *Runner) event(a *active, t EventType) Event {
	return Event{Operation: a.op.ID, Time: now(), Phase: a.op.Phase, Step: a.op.Step, Type: t}
}

func (r *Runner) change(a *active) Event {
	e := r.event(a, Change)
	e.Waiting, e.Failure = a.op.Waiting, a.op.Failure
	return e
}

// settled lets go of an operation that has ended. The caller holds r.mu.
func (r *Runner) settled(a *active) error {
	r.active = nil
	if a.op.Phase == Stuck {
		r.stuck = a.op.ID
	} else if r.stuck == a.op.ID {
		r.stuck = ""
	}
	r.tail.broadcast()
	return r.unsettled(false)
}

func (r *Runner) unsettled(is bool) error {
	if r.Config.Unsettled == nil {
		return nil
	}
	return r.Config.Unsettled(is)
}
