package operation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of the pause after which what a disk has refused is tried again.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
)

// A Halt is why an operation does not go on, though nothing has ended it: its
// journal, or a disk that it cannot do without, refuses what is written. The runner
// tries again until it works. A halt is not journaled.
type Halt struct {
	Since time.Time
	// Cause is what failed first, and then what refuses.
	Cause *Failure
}

// persist journals what next makes of the operation, and does not give up: while the
// journal refuses, the operation is halted, and its step has failed with cause if
// that is not nil. It returns an error when ctx or the runner has ended. Next is
// called before each try, because a.op may have changed: the caller holds r.mu, which
// is let go of between the tries. Room, if set, makes room on the disk first; it is
// called until it works.
func (r *Runner) persist(ctx context.Context, a *active, cause error, next func() (Operation, []Event), freeSpace func() error) error {
	for try := 0; ; try++ {
		op, events := next()
		err := r.save(context.WithoutCancel(ctx), a, op, events...)
		if err == nil {
			r.endHalt(a)
			return nil
		}
		if ctx.Err() != nil || r.ctx.Err() != nil {
			r.endHalt(a)
			return err
		}
		r.halt(a, try, withFirstCause(a.op, cause, err))
		if freeSpace != nil {
			r.mu.Unlock()
			rerr := freeSpace()
			r.mu.Lock()
			if rerr == nil { // a try at once
				freeSpace = nil
				continue
			}
		}
		r.pauseBeforeRetry(ctx, a, try)
	}
}

// withFirstCause puts what failed first in front of what the journal says. Kind and hint are
// those of what refuses now.
func withFirstCause(op Operation, cause, err error) error {
	if cause == nil || isWait(cause) {
		return err
	}
	return errkind.WithHint(errkind.Errorf(errkind.Of(err), "%s: %w; then: %w", stepName(op.Step, op.Phase == Undoing), cause, err), "%s", errkind.Hint(err))
}

// halt notes why the operation does not go on. A first refusal may be over in a
// moment, so nobody is told before the second. The caller holds r.mu.
func (r *Runner) halt(a *active, try int, err error) {
	if try == 0 && a.halt == nil {
		a.refusedSince = utcNow()
		return
	}
	cause := failureOf(err)
	if f := a.op.Failure; f != nil { // what failed first stays in front
		cause.Message = f.Message + "; " + cause.Message
	}
	switch {
	case a.halt == nil:
		r.Logger.Error("operation halted: it goes on by itself once the disk takes what is written", "operation", a.op.ID, "step", a.op.Step, "error", err)
		a.halt = &Halt{Since: a.refusedSince}
	case a.halt.Cause.Message == cause.Message:
		return
	}
	a.halt.Cause = cause
	r.tail.halt(a.op, a.halt)
}

// endHalt ends a halt. The caller holds r.mu.
func (r *Runner) endHalt(a *active) {
	if a.halt == nil {
		return
	}
	r.Logger.Info("operation goes on", "operation", a.op.ID, "halted", time.Since(a.halt.Since).Round(time.Millisecond).String())
	a.halt = nil
	r.tail.halt(a.op, nil)
}

// pauseBeforeRetry waits before the next try, longer each time. Cancel, the end of ctx and the
// runner's end cut it short. The caller holds r.mu, which is let go of meanwhile.
func (r *Runner) pauseBeforeRetry(ctx context.Context, a *active, try int) {
	r.mu.Unlock()
	defer r.mu.Lock()
	longest := min(longestPause, firstPause<<min(try, 16))
	timer := time.NewTimer(longest - rand.N(longest/4)) // many hosts may share one disk
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.wake:
	case <-ctx.Done():
	case <-r.ctx.Done():
	}
}

// freeSpace returns what frees space for the journal: the Undo of the step that failed, or
// was cancelled while it was halted. It is not journaled: a crash in it means that the
// step is done again, which it has to bear in any case. What it has to say, and
// whether it works, comes out when it is run again.
func (r *Runner) freeSpace(a *active, e outcome) func() error {
	return func() error {
		r.mu.Lock()
		op, cancelled := a.op, a.op.Cancelled && !e.isLast
		r.mu.Unlock()
		if e.err == nil && !cancelled {
			return errNothingToFree
		}
		_, err := a.kind.call(r.ctx, op.Step, true, op.ID, e.state, discardSink{})
		if err != nil {
			r.Logger.Warn("free space", "operation", op.ID, "error", err)
		}
		return err
	}
}

var errNothingToFree = errors.New("the step has not failed")

// Insist calls write, which writes to the datastore, until it works: while it fails
// for want of space, or of a disk that answers, the operation that ctx belongs to is
// halted. Any other error, and that when ctx ends, is returned. It is for the steps of
// an operation; with another context write is called once.
func Insist(ctx context.Context, write func() error) error {
	s, ok := ctx.Value(insistKey{}).(*stepSink)
	if !ok {
		return write()
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for try := 0; ; try++ {
		s.r.mu.Unlock()
		err := write()
		s.r.mu.Lock()
		if err == nil || ctx.Err() != nil || !isRetryable(err) {
			s.r.endHalt(s.a)
			return err
		}
		s.r.halt(s.a, try, fmt.Errorf("%s: %w", stepName(s.a.op.Step, s.a.op.Phase == Undoing), err))
		s.r.pauseBeforeRetry(ctx, s.a, try)
	}
}

type insistKey struct{}

// isRetryable reports whether a write may work when it is tried again.
func isRetryable(err error) bool {
	var temporary interface{ Temporary() bool }
	return errkind.Of(err) == errkind.NoSpace || errors.As(err, &temporary) && temporary.Temporary()
}
