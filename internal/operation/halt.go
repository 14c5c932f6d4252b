package operation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of the pause before Trident retries a write that a disk has refused.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
)

// A Halt says why an operation does not go on although it has not ended: its
// journal, or another disk that it needs, refuses writes. The runner retries until
// the write works. A halt is not journaled.
type Halt struct {
	Since time.Time
	// Cause is the failure of the step, if it failed, followed by the refused write.
	Cause *Failure
}

// persist journals the operation and events that next returns, and retries while
// the journal refuses: the operation is halted meanwhile. cause, if not nil, is
// the failure of the step, for the halt's message. persist fails only when ctx or
// the runner has ended. The caller holds r.mu, which persist releases between
// attempts; persist calls next before each attempt, because a.op may have changed.
// freeSpace, if set, frees space on the disk; persist calls it until it works.
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
			if rerr == nil { // retry at once
				freeSpace = nil
				continue
			}
		}
		r.pauseBeforeRetry(ctx, a, try)
	}
}

// withFirstCause puts the failure of the step in front of the journal's error. The
// kind and the hint are those of the journal's error.
func withFirstCause(op Operation, cause, err error) error {
	if cause == nil || isWait(cause) {
		return err
	}
	return errkind.WithHint(errkind.Errorf(errkind.Of(err), "%s: %w; then: %w", stepName(op.Step, op.Phase == Undoing), cause, err), "%s", errkind.Hint(err))
}

// halt records why the operation does not go on. The first refusal may be over in
// a moment, so watchers hear of the second one. The caller holds r.mu.
func (r *Runner) halt(a *active, try int, err error) {
	if try == 0 && a.halt == nil {
		a.refusedSince = utcNow()
		return
	}
	cause := failureOf(err)
	if f := a.op.Failure; f != nil { // the failure of the operation comes first
		cause.Message = f.Message + "; " + cause.Message
	}
	switch {
	case a.halt == nil:
		r.Logger.Error("operation halted: it goes on by itself once the disk accepts writes", "operation", a.op.ID, "step", a.op.Step, "error", err)
		a.halt = &Halt{Since: a.refusedSince}
	case a.halt.Cause.Message == cause.Message:
		return
	}
	a.halt.Cause = cause
	r.tail.halt(a.op, a.halt)
}

// endHalt ends a halt, if there is one. The caller holds r.mu.
func (r *Runner) endHalt(a *active) {
	if a.halt == nil {
		return
	}
	r.Logger.Info("operation goes on", "operation", a.op.ID, "halted", time.Since(a.halt.Since).Round(time.Millisecond).String())
	a.halt = nil
	r.tail.halt(a.op, nil)
}

// pauseBeforeRetry waits before the next attempt, longer each time. Cancel, the
// end of ctx and the end of the runner cut the pause short. The caller holds r.mu,
// which is released meanwhile.
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

// freeSpace returns a function that frees space for the journal: it calls the Undo
// of a step that failed, or that was cancelled while the operation was halted.
// That call is not journaled: after a crash the step is done again, which every
// step has to bear. The later, journaled Undo reports messages and errors.
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

var errNothingToFree = errors.New("the step has not failed, so its undo cannot free space")

// Insist calls write, which writes to the datastore, until write works: while the
// disk is full or does not answer, the operation of ctx is halted. Insist returns
// any other error at once, and the last error when ctx ends. Steps of an operation
// call it; with any other context it calls write once.
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

// isRetryable reports whether a write that failed with err may work later.
func isRetryable(err error) bool {
	var temporary interface{ Temporary() bool }
	return errkind.Of(err) == errkind.NoSpace || errors.As(err, &temporary) && temporary.Temporary()
}
