package operation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

var (
	// ErrDetached ends a watch because the runner stops. The operation goes on
	// in the next daemon; watch it there after the last sequence number seen.
	ErrDetached = errkind.With(errkind.Unavailable, errors.New("trident restarts; the operation goes on"))

	errCancelled = errkind.With(errkind.Cancelled, errors.New("cancelled"))
	errShutdown  = errors.New("the daemon stops")
)

// Life tells this boot and this process from any other.
type Life struct {
	Boot    string // the kernel's boot ID
	Process string // random, one per process
}

// Config is what a runner needs.
type Config struct {
	Journal Journal
	Life    Life
	Logger  *slog.Logger
	// Unsettled, if set, is called with true before an operation is first
	// journaled and with false after the last one has settled, so that
	// something outside can see to it that a daemon runs until then. An error
	// on the way in prevents the operation.
	Unsettled func(bool) error
	// Origin, if set, says which call the context of a new operation is of.
	Origin func(context.Context) Origin
	// Observe, if set, is handed each operation as it was journaled, with the
	// events that were journaled with it, before those who watch hear of them. It must
	// not call the runner, nor take longer than a write to the journal does.
	Observe func(Operation, ...Event)
}

// A Runner runs one operation at a time.
type Runner struct {
	Config
	kinds map[string]kind
	stop  context.CancelCauseFunc
	ctx   context.Context // ends at Shutdown
	idle  sync.WaitGroup  // the goroutine of the running operation

	mu     sync.Mutex
	active *active // the one unsettled operation, running or waiting
	stuck  string  // an operation that ended stuck: nothing new starts

	tail tail

	resumed     chan struct{}         // closed once Resume has run
	markResumed func()                // closes it
	refusal     atomic.Pointer[error] // of Refuse
}

// active is an operation that has not settled.
type active struct {
	op           Operation
	kind         kind // nil if this version does not know it
	cancel       context.CancelCauseFunc
	isRunning    bool
	lastProgress time.Time   // the last progress events
	lastFlush    time.Time   // the last events that were held back
	held         []Event     // what is held back: progress, one of each part, and lines
	flushTimer   *time.Timer // journals it

	pending      func() (Operation, []Event) // to be journaled before the next step
	hasAdvanced  bool                        // what the step has done it does not do again,
	keptProgress int64                       // so far; see ProgressKept
	wake         chan struct{}               // ends a pause
	refusedSince time.Time                   // when the journal first refused
	halt         *Halt
}

// New returns a runner. Register the kinds, then call Resume: the journal is not
// read before.
func New(ctx context.Context, c Config) *Runner {
	r := &Runner{Config: c, kinds: map[string]kind{}, tail: tail{changed: make(chan struct{})}, resumed: make(chan struct{})}
	r.markResumed = sync.OnceFunc(func() { close(r.resumed) })
	r.ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	return r
}

// A Starter begins an operation. It returns once the operation is journaled; an
// error of kind Busy names the operation that is in the way. It waits for Resume.
type Starter[S any] func(ctx context.Context, summary string, state S) (Operation, error)

// Register makes a kind known to the runner.
func Register[S any](r *Runner, k Kind[S]) Starter[S] {
	r.kinds[k.Name] = k
	return func(ctx context.Context, summary string, state S) (Operation, error) {
		raw, err := json.Marshal(state)
		if err != nil {
			return Operation{}, fmt.Errorf("write record: %w", err)
		}
		return r.start(ctx, k.Name, summary, raw)
	}
}

func (r *Runner) start(ctx context.Context, name, summary string, state json.RawMessage) (Operation, error) {
	if err := r.Resumed(ctx); err != nil {
		return Operation{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.checkFree(); err != nil {
		return Operation{}, err
	}
	k := r.kinds[name]
	begun := utcNow()
	op := Operation{
		ID: newID(begun), Kind: name, Summary: summary, Phase: Doing,
		Plan: k.steps(), Step: k.steps()[0], Created: begun, StepBegan: begun, Begins: 1, State: state,
		Request: requestOf(ctx),
	}
	r.setOrigin(ctx, &op)
	if err := r.markUnsettled(true); err != nil {
		return Operation{}, fmt.Errorf("begin operation: %w", err)
	}
	a := &active{op: op, kind: k}
	if err := r.save(ctx, a, op, newChange(op)); err != nil {
		return Operation{}, errors.Join(fmt.Errorf("begin operation: %w", err), r.markUnsettled(false))
	}
	r.active = a
	r.launch(a)
	return a.op, nil
}

// checkFree reports what keeps a new operation from starting.
func (r *Runner) checkFree() error {
	switch {
	case r.ctx.Err() != nil:
		return ErrDetached
	case r.active != nil:
		return errkind.WithHint(
			errkind.Errorf(errkind.Busy, "another operation is running: %s (%s)", r.active.op.Summary, r.active.op.ID),
			"follow it with: trident operation watch %s", r.active.op.ID)
	case r.stuck != "":
		return errkind.WithHint(
			errkind.Errorf(errkind.Precondition, "operation %s is stuck: it could not take back what it did", r.stuck),
			"see trident operation show %s, mend the cause, then: trident operation cancel %s", r.stuck, r.stuck)
	}
	return nil
}

func newID(now time.Time) string {
	return now.Format("20060102-150405-") + rand.Text()[:6]
}

// Resume reads the journal and carries on with the operation that an earlier
// daemon left, if there is one. An operation of a kind or with a step that this
// version does not know is left as it is, for a version that does. What begins or
// cancels operations waits until it has returned nil; what is read of them before
// is from another life, see Resumed.
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
	// What cannot be marked can be carried on with.
	if err := r.markUnsettled(a != nil); err != nil {
		r.Logger.Warn("the mark of unsettled work is not as it should be", "error", err)
	}
	if a == nil {
		return nil
	}
	k, ok := r.kinds[a.op.Kind]
	if !ok || !slices.Contains(k.steps(), a.op.Step) {
		r.Logger.Error("this version cannot carry on with an operation", "operation", a.op.ID, "kind", a.op.Kind, "step", a.op.Step)
		return nil
	}
	a.kind, a.op.Plan = k, k.steps()
	r.resumeStep(ctx, a)
	return nil
}

// resumeStep carries on with an operation that another runner has left, unless it has to
// wait on. What leads on is journaled here if the journal takes it, and else by the
// operation's own goroutine.
func (r *Runner) resumeStep(ctx context.Context, a *active) {
	switch {
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

// Bounds of how often a step is begun without getting on. A host whose power fails a
// few times still gets there, and a step that ends the process, or the host, does not
// do so for ever. The second bound counts the times too when the daemon was asked to
// stop, which a step may bring about as well.
const (
	maxCrashes = 5
	maxBegins  = 20
)

// tooManyBegins is why a step is not begun again; nil while it may be.
func (o Operation) tooManyBegins() error {
	var err error
	switch ends := o.Begins - o.Stops; {
	case ends >= maxCrashes:
		err = errkind.Errorf(errkind.Internal, "Trident ended %d times in this step without having finished it", ends)
	case o.Begins >= maxBegins:
		err = errkind.Errorf(errkind.Internal, "this step was begun %d times, and Trident stopped each time before it was finished", o.Begins)
	default:
		return nil
	}
	return errkind.WithHint(err, "How it ended is in its journal: journalctl -u tridentd")
}

// restartStep is an operation whose step is begun again, or, where that has happened
// too often, has failed. The caller holds r.mu.
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

// Resumed returns nil once Resume has, and ErrDetached if the runner stops before.
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

// Refuse stands in for a Resume that cannot be: every call that waits for Resume, and
// every later one, fails with err.
func (r *Runner) Refuse(err error) {
	r.refusal.CompareAndSwap(nil, &err)
	r.markResumed()
}

// Check reports whether Resume could carry on with what the journal holds: an
// error of kind Incompatible names what this version does not know.
func (r *Runner) Check(ctx context.Context) error {
	op, err := r.unsettledOperation(ctx)
	if err != nil || op == nil {
		return err
	}
	return r.checkKnown(*op)
}

// unsettledOperation is the operation that an earlier daemon did not settle; nil for none.
func (r *Runner) unsettledOperation(ctx context.Context) (*Operation, error) {
	ops, err := r.Journal.List(ctx, 1, true)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return &ops[0], nil
}

func (r *Runner) checkKnown(op Operation) error {
	if k, ok := r.kinds[op.Kind]; !ok || !slices.Contains(k.steps(), op.Step) {
		return errkind.Errorf(errkind.Incompatible, "this version cannot carry on with operation %s: it does not know step %q of %q", op.ID, op.Step, op.Kind)
	}
	return nil
}

func (r *Runner) lifeID(w Wait) string {
	if w == Reboot {
		return r.Life.Boot
	}
	return r.Life.Process
}

func (r *Runner) launch(a *active) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	a.cancel, a.isRunning, a.wake = cancel, true, make(chan struct{}, 1)
	a.flushTimer = time.AfterFunc(time.Hour, func() { r.flushOnTimer(a) })
	a.flushTimer.Stop()
	if a.op.Cancelled {
		cancel(errCancelled)
	}
	r.idle.Go(func() {
		defer cancel(nil)
		r.loop(ctx, a)
		r.mu.Lock()
		r.flush(a)
		a.isRunning = false
		r.mu.Unlock()
	})
}

// Shutdown stops the running step at its next check of its context and returns
// when it has. The operation goes on at that step in the next daemon. Watches
// end with ErrDetached. An operation that is halted stops at once.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.stop(errShutdown)
	if a := r.active; a != nil && a.isRunning && a.halt == nil {
		// A step does not count as one that ends the process because that is stopped.
		op := a.op
		op.Stops++
		if err := r.save(ctx, a, op); err != nil {
			r.Logger.Warn("it is not journaled that the daemon was asked to stop", "operation", op.ID, "error", err)
		}
	}
	r.tail.broadcast()
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { r.idle.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the running step: %w", context.Cause(ctx))
	}
}
