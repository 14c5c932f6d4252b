package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// loop runs steps until the operation settles or waits, or the runner stops.
func (r *Runner) loop(ctx context.Context, a *active) {
	if a.pending != nil && r.first(a) {
		return
	}
	for r.ctx.Err() == nil && !r.turn(ctx, a) {
	}
}

// first journals what Resume could not. It reports whether the operation stops there.
func (r *Runner) first(a *active) (stop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := a.pending
	a.pending = nil
	if err := r.persist(r.ctx, a, nil, pending, nil); err != nil {
		return true
	}
	return r.landed(a)
}

// turn runs one step, forwards or backwards, and journals where that leads.
func (r *Runner) turn(ctx context.Context, a *active) (stop bool) {
	r.mu.Lock() // Cancel writes to it
	op, undo, last := a.op, a.op.Phase == Undoing, r.last(a)
	r.mu.Unlock()
	if undo || last { // neither what is taken back nor the last step is cancelled
		ctx = r.ctx
	}
	s := &stepSink{r: r, a: a}
	state, err := a.kind.call(ctx, op.Step, undo, op.ID, op.State, s)
	if errkind.Of(err) == errkind.NoSpace && undo && !waits(err) {
		state, err = r.again(a, op.Step, state, err, s)
	}
	if err != nil && r.ctx.Err() != nil && !waits(err) {
		return true // stopped half-way: the journal still says "this step"
	}
	var reboot *asking
	owed := errors.As(err, &reboot)
	if errors.Is(context.Cause(ctx), errCancelled) && !undo && (owed || !waits(err)) {
		err, owed = errCancelled, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := end{state: state, undo: undo, last: last, err: err, owed: owed}
	stop = r.land(a, e)
	if !a.op.Owed || r.ctx.Err() != nil {
		return stop
	}
	return r.ask(a, e, reboot.ask)
}

// again calls an Undo that a full disk has failed until the disk has space or the
// runner stops: for want of space alone no operation is to be stuck.
func (r *Runner) again(a *active, step string, state json.RawMessage, err error, s sink) (json.RawMessage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for try := 0; errkind.Of(err) == errkind.NoSpace && r.ctx.Err() == nil && !waits(err); try++ {
		r.halt(a, try, fmt.Errorf("%s: %w", stepName(step, true), err))
		if r.pause(r.ctx, a, try); r.ctx.Err() != nil {
			break
		}
		r.mu.Unlock()
		state, err = a.kind.call(r.ctx, step, true, a.op.ID, state, s)
		r.mu.Lock()
	}
	r.goOn(a)
	return state, err
}

// stepName names a step and its direction in an error.
func stepName(step string, undo bool) string {
	if undo {
		return "take back " + step
	}
	return step
}

// end is how a call of a step has ended.
type end struct {
	state      json.RawMessage
	undo, last bool
	err        error
	owed       bool
}

// land journals where a step that ended leads. While the journal refuses, a.op is
// what the journal has. The caller holds r.mu.
func (r *Runner) land(a *active, e end) (stop bool) {
	r.flush(a)
	next := func() (Operation, []Event) {
		op, err := a.op, e.err
		op.State, op.Waiting, op.WaitID, op.Owed = e.state, "", "", e.owed
		if op.Cancelled && !e.undo && !e.last && (err == nil || e.owed) { // since it ended
			err, op.Owed = errCancelled, false
		}
		op, events := r.moved(a, op, err)
		if op.Phase == Done || op.Phase == Undone {
			op.State = withoutSecrets(op.State)
		}
		return op, events
	}
	var room func() error
	if !e.undo && !waits(e.err) {
		room = r.room(a, e)
	}
	if err := r.persist(r.ctx, a, e.err, next, room); err != nil {
		return true
	}
	return r.landed(a)
}

// landed lets go of an operation that has settled, and reports whether the loop
// ends. The caller holds r.mu.
func (r *Runner) landed(a *active) (stop bool) {
	if a.op.Phase.Settled() {
		r.settled(a)
		return true
	}
	return a.op.Waiting != "" && !a.op.Owed
}

// ask asks for what the journal says is waited for. The caller holds r.mu, which is
// let go of meanwhile.
func (r *Runner) ask(a *active, e end, ask func(context.Context) error) (stop bool) {
	r.mu.Unlock()
	err := safely(func() error { return ask(r.ctx) })
	r.mu.Lock()
	if err != nil && r.ctx.Err() != nil {
		return true // it is owed still
	}
	if err != nil {
		e.err, e.owed, e.state = err, false, a.op.State
		return r.land(a, e)
	}
	_ = r.persist(r.ctx, a, nil, func() (Operation, []Event) { // else it is owed still
		op := a.op
		op.Owed = false
		return op, nil
	}, nil)
	return true
}

func waits(err error) bool { return errors.Is(err, ErrRestart) || errors.Is(err, ErrReboot) }

func (r *Runner) last(a *active) bool { return a.op.Step == a.op.Plan[len(a.op.Plan)-1] }

// moved is the operation after a step that ended with err, with its events.
func (r *Runner) moved(a *active, op Operation, err error) (Operation, []Event) {
	a.advanced = false
	ended := r.ended(a, op, err)
	r.move(a.kind, &op, err)
	return op, append(ended, change(op))
}

// move works out where a step that ended with err leads.
func (r *Runner) move(k kind, op *Operation, err error) {
	if !waits(err) { // what waits has still to get there
		op.newStep()
	}
	switch {
	case errors.Is(err, ErrRestart):
		op.Waiting, op.WaitID = Restart, r.Life.Process
	case errors.Is(err, ErrReboot):
		op.Waiting, op.WaitID = Reboot, r.Life.Boot
	case err == nil:
		advance(k, op)
	case op.Phase == Doing:
		op.Phase, op.Reached, op.Failure = Undoing, op.Step, failureOf(fmt.Errorf("%s: %w", op.Step, err))
	default:
		op.Phase = Stuck
		f := *op.Failure // the journal's view keeps its own
		f.Message = fmt.Sprintf("%s; take back %s: %v", f.Message, op.Step, err)
		op.Failure = &f
	}
}

// newStep begins to count for a step that is begun for the first time.
func (o *Operation) newStep() { o.StepBegan, o.Begins, o.Stops, o.Kept = now(), 1, 0, 0 }

// advance moves on in the operation's direction, to the next step that has
// something to do there.
func advance(k kind, op *Operation) {
	names, by := k.steps(), 1
	undo := op.Phase == Undoing
	if undo {
		by = -1
	}
	for at := slices.Index(names, op.Step) + by; at >= 0 && at < len(names); at += by {
		if k.acts(names[at], undo) {
			op.Step = names[at]
			return
		}
	}
	op.Phase = Done
	if undo {
		op.Phase = Undone
	}
}

// save journals the operation with new events, all or none, and tells the
// watchers. The caller holds r.mu.
func (r *Runner) save(ctx context.Context, a *active, op Operation, events ...Event) error {
	for i := range events {
		op.Sequence++
		op.Updated = events[i].Time
		events[i].Sequence = op.Sequence
	}
	if a.advanced {
		op.Begins, op.Stops, op.Kept = 1, 0, a.kept
	}
	if err := r.Journal.Save(ctx, op, events...); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	a.advanced = false
	before := a.op.Failure
	a.op = op
	r.observe(op, before, events)
	r.tail.add(op, events)
	return nil
}

func event(op Operation, t EventType) Event {
	return Event{Operation: op.ID, Time: now(), Phase: op.Phase, Step: op.Step, Type: t}
}

func change(op Operation) Event {
	e := event(op, Change)
	e.Waiting, e.Failure = op.Waiting, op.Failure
	return e
}

// settled lets go of an operation that has ended. The caller holds r.mu.
func (r *Runner) settled(a *active) {
	r.active = nil
	if a.op.Phase == Stuck {
		r.stuck = a.op.ID
	} else if r.stuck == a.op.ID {
		r.stuck = ""
	}
	r.tail.broadcast()
	if err := r.unsettled(false); err != nil { // the next Resume tries again
		r.Logger.Warn("the operation has ended, and its mark stays", "operation", a.op.ID, "error", err)
	}
}

func (r *Runner) unsettled(is bool) error {
	if r.Config.Unsettled == nil {
		return nil
	}
	return r.Config.Unsettled(is)
}
