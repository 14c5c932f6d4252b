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
	// ErrDetached ends a watch because the runner stops. The next daemon resumes the
	// operation; watch it there after the last sequence number seen.
	ErrDetached = errkind.With(errkind.Unavailable, errors.New("trident restarts; the operation goes on"))

	errCancelled = errkind.With(errkind.Cancelled, errors.New("cancelled"))
	errShutdown  = errors.New("the daemon stops")
)

// Life identifies this boot and this process.
type Life struct {
	Boot    string // the kernel's boot ID
	Process string // random, one per process
}

// Config has all that a Runner needs.
type Config struct {
	Journal Journal
	Life    Life
	Logger  *slog.Logger
	// Unsettled, if set, is called with true before an operation is first journaled,
	// and with false after the last operation has settled, so that a daemon can be
	// started at boot while work is unsettled. If it fails with true, the operation
	// does not begin.
	Unsettled func(bool) error
	// Origin, if set, returns the call to which the context of a new operation
	// belongs.
	Origin func(context.Context) Origin
	// Observe, if set, receives each operation and its events as they were
	// journaled, before watchers do. It must not call the runner, nor take longer
	// than a write to the journal.
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

// active is the unsettled operation.
type active struct {
	op           Operation
	kind         kind // nil if this version does not know it
	cancel       context.CancelCauseFunc
	isRunning    bool
	lastProgress time.Time   // when progress was last flushed
	lastFlush    time.Time   // when held events were last flushed
	held         []Event     // events to be journaled: progress, one of each part, and lines
	flushTimer   *time.Timer // flushes held

	pending      func() (Operation, []Event) // to be journaled before the next step
	hasAdvanced  bool                        // the step has advanced since the last save
	keptProgress int64                       // bytes done for good; see ProgressKept
	wake         chan struct{}               // ends a pause before a retry
	refusedSince time.Time                   // when the journal first refused
	halt         *Halt
}

// wakeUp ends a pause of the goroutine of the operation.
func (a *active) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// New returns a runner. Register the kinds, then call Resume, which reads the
// journal.
func New(ctx context.Context, c Config) *Runner {
	r := &Runner{Config: c, kinds: map[string]kind{}, tail: tail{changed: make(chan struct{})}, resumed: make(chan struct{})}
	r.markResumed = sync.OnceFunc(func() { close(r.resumed) })
	r.ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	return r
}

// A Starter begins an operation and returns once the operation is journaled. Before
// that it waits until Runner.Resume has returned. An error of kind Busy names the
// operation that is running.
type Starter[S any] func(ctx context.Context, summary string, state S) (Operation, error)

// Register registers a kind with the runner and returns the function that begins
// operations of that kind.
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
		Request: requestOf(ctx), PauseBefore: pauseOf(ctx), AskedBy: askedByOf(ctx),
	}
	if op.PauseBefore != "" && !slices.Contains(op.Plan[1:], op.PauseBefore) {
		return Operation{}, errkind.Errorf(errkind.Invalid, "an operation of the kind %s does not have a step %q to pause before", name, op.PauseBefore)
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

// checkFree returns an error if a new operation must not begin.
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
			errkind.Errorf(errkind.Precondition, "operation %s is stuck: an undo failed", r.stuck),
			"see trident operation show %s, remove the cause, then: trident operation cancel %s", r.stuck, r.stuck)
	}
	return nil
}

func newID(now time.Time) string {
	return now.Format("20060102-150405-") + rand.Text()[:6]
}

// Bounds of how often a step begins without advancing. A host whose power fails a
// few times still completes the step, and a step that ends the process or the host
// does not do so for ever. maxBegins also counts attempts that ended because the
// daemon was asked to stop, which the step itself may cause.
const (
	maxCrashes = 5
	maxBegins  = 20
)

// Refuse replaces a Resume that is impossible: all calls that wait for Resume, and
// all later ones, fail with err.
func (r *Runner) Refuse(err error) {
	r.refusal.CompareAndSwap(nil, &err)
	r.markResumed()
}

// Check reports whether Resume could resume the operation in the journal: an error
// of kind Incompatible names the step or kind that this version does not know.
func (r *Runner) Check(ctx context.Context) error {
	op, err := r.unsettledOperation(ctx)
	if err != nil || op == nil {
		return err
	}
	return r.checkKnown(*op)
}

// unsettledOperation returns the unsettled operation in the journal; nil for none.
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
		return errkind.Errorf(errkind.Incompatible, "this version cannot resume operation %s: it does not know step %q of %q", op.ID, op.Step, op.Kind)
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

// Shutdown stops the running step at its next check of its context, and returns
// when the step has stopped. The next daemon resumes the operation at that step.
// Watches end with ErrDetached. A halted operation stops at once.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.stop(errShutdown)
	if a := r.active; a != nil && a.isRunning && a.halt == nil {
		// A stop does not count as a crash of the step.
		op := a.op
		op.Stops++
		if err := r.save(ctx, a, op); err != nil {
			r.Logger.Warn("cannot journal that the daemon was asked to stop", "operation", op.ID, "error", err)
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
