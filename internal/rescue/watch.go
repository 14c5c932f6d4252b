package rescue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Figures of the judgement.
const (
	interval      = time.Second      // between two looks
	witnessAfter  = 3                // answers of the target in a row
	crashesBefore = 3                // restarts by systemd before the target has answered
	strangeBefore = 3                // answers of a third version in a row
	silentBefore  = 15 * time.Second // without an answer after the target has answered
	answerTime    = 5 * time.Second  // for one answer
	maxWatches    = 4                // boots that a trial may take
	returnTries   = 3                // to put a version back, before a deeper fall-back
	returnWait    = 45 * time.Second // for a version that was put back to answer
)

// A Unit is what systemd says of tridentd.service.
type Unit struct {
	Active   string // ActiveState
	Restarts int    // NRestarts
	PID      int    // MainPID
}

// A Host is what the rescuer can see and do. The real one is SystemHost.
type Host interface {
	// Version asks whoever answers on Trident's socket.
	Version(ctx context.Context) (string, error)
	// Unit asks systemd about the daemon.
	Unit(ctx context.Context) (Unit, error)
	// Swing makes the extension link point to link, or removes it for "".
	Swing(link string) error
	// Refresh has systemd merge what the link says.
	Refresh(ctx context.Context) error
	// Restart forgets failures and starts the daemon anew, and the socket where
	// it is down.
	Restart(ctx context.Context) error
	// Logf says something in the journal.
	Logf(format string, args ...any)
}

// Watch judges the trial in the record until it has a verdict, and returns the
// host to the previous version when the target does not prove itself. It
// returns nil when there is nothing (more) to judge.
func Watch(ctx context.Context, f File, h Host) error {
	r, err := f.Read()
	if errors.Is(err, ErrNone) || err == nil && r.Verdict != "" {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Update(r.Operation, func(r *Record) error { r.Watches++; return nil })
	if err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	j, operation := judge{start: time.Now()}, r.Operation
	for {
		r, err := f.Read()
		// The next trial has a rescuer of its own, which has seen nothing of this.
		if err != nil || r.Verdict != "" || r.Operation != operation {
			return none(err)
		}
		doubt := j.look(ctx, h, r)
		if j.witnessed() && !r.Witnessed && !r.Returning {
			h.Logf("trident %s has answered %d times in a row", r.Target.Version, witnessAfter)
			err := f.Update(r.Operation, func(r *Record) error { r.Witnessed = true; return nil })
			if err != nil {
				return none(err)
			}
		}
		if doubt != "" {
			return none(giveUp(ctx, f, h, r, doubt))
		}
		if err := pause(ctx, interval); err != nil {
			return err
		}
	}
}

func none(err error) error {
	if errors.Is(err, ErrNone) || errors.Is(err, ErrKept) {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A judge is what the rescuer remembers of its looks.
type judge struct {
	start    time.Time
	gaveUp   time.Time // when the daemon was first seen to have given the target up
	before   int       // restarts by systemd that were not the target's
	answered bool      // the target, at some time
	pid      int       // of the target that answered
	inARow   int       // answers of the target
	strange  int       // answers of a third version, in a row
	silent   time.Time // since when nobody answers; zero while somebody does
}

func (j *judge) witnessed() bool { return j.inARow >= witnessAfter }

// look takes one look at the host and returns why the target is to be given up,
// or "".
func (j *judge) look(ctx context.Context, h Host, r Record) string {
	elapsed := time.Since(j.start)
	version, verr := ask(ctx, h.Version)
	unit, uerr := ask(ctx, h.Unit)
	if ctx.Err() != nil {
		return ""
	}
	switch {
	case r.Returning: // the daemon gave it up and goes back by itself, if it can
		if j.gaveUp.IsZero() {
			j.gaveUp = time.Now()
		}
		if time.Since(j.gaveUp) > returnWait {
			return r.Reason
		}
		return ""
	case r.Watches > maxWatches:
		return fmt.Sprintf("it was not kept in %d boots", r.Watches-1)
	case elapsed > r.deadline():
		return fmt.Sprintf("it was not kept within %s: %s", r.deadline(), describe(version, verr, unit, uerr))
	}
	j.count(version, verr, r)
	if j.strange >= strangeBefore {
		return fmt.Sprintf("version %s answers instead of %s", version, r.Target.Version)
	}
	if j.answered && !j.silent.IsZero() && time.Since(j.silent) >= silentBefore {
		return fmt.Sprintf("it answered and then no more: %v", verr)
	}
	switch {
	case uerr != nil:
		return ""
	case !r.Restarting && !j.answered:
		j.before = unit.Restarts
		return ""
	}
	if verr == nil && j.pid == 0 && version == r.Target.Version {
		j.pid = unit.PID
	}
	return j.judgeUnit(unit)
}

// ask bounds one question. The socket takes a call also while no daemon runs, so
// that asking for the version may take all of its time, and what comes next has
// to have its own.
func ask[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return question(ctx)
}

func (j *judge) count(version string, err error, r Record) {
	switch {
	case err != nil:
		j.inARow = 0
		if j.silent.IsZero() {
			j.silent = time.Now()
		}
		return
	case version == r.Target.Version:
		j.answered, j.inARow, j.strange = true, j.inARow+1, 0
	case version == r.Previous.Version:
		j.inARow, j.strange = 0, 0
	default:
		j.inARow, j.strange = 0, j.strange+1
	}
	j.silent = time.Time{}
}

// judgeUnit looks at what systemd says of the daemon once it is to be the
// target. systemd counts restarts anew when a job restarts the service, and does
// not count it when one that went by itself is started again by its socket.
func (j *judge) judgeUnit(u Unit) string {
	crashes := u.Restarts
	if crashes >= j.before {
		crashes -= j.before
	}
	switch {
	case u.Active == "failed":
		return "its service failed"
	case j.answered && crashes > 0, j.pid != 0 && u.PID != 0 && u.PID != j.pid:
		return "it stopped after it had answered"
	case crashes >= crashesBefore:
		return fmt.Sprintf("systemd had to restart it %d times", crashes)
	}
	return ""
}

func describe(version string, verr error, unit Unit, uerr error) string {
	switch {
	case verr == nil:
		return fmt.Sprintf("version %s answers", version)
	case uerr != nil:
		return fmt.Sprintf("it does not answer (%v)", verr)
	}
	return fmt.Sprintf("it does not answer (%v) and its service is %s", verr, unit.Active)
}

// giveUp decides against the target and returns the host to the previous version.
func giveUp(ctx context.Context, f File, h Host, r Record, reason string) error {
	if err := f.Return(r.Operation, reason); err != nil {
		return err
	}
	h.Logf("giving up trident %s: %s", r.Target.Version, reason)
	sides := []Side{r.Previous}
	if r.Previous.Link != "" {
		sides = append(sides, Side{}) // the base, if all else fails
	}
	var errs error
	for _, side := range sides {
		for try := range returnTries {
			err := putBack(ctx, f, h, r.Operation, side, r.Target.Version)
			if errors.Is(err, errClosed) {
				h.Logf("trident is back from %s by itself", r.Target.Version)
				return nil
			}
			if err == nil {
				h.Logf("trident is back from %s", r.Target.Version)
				return f.Close(r.Operation)
			}
			if ctx.Err() != nil {
				return err
			}
			h.Logf("try %d of %d: %v", try+1, returnTries, err)
			errs = errors.Join(errs, err)
		}
	}
	return fmt.Errorf("return from trident %s: %w", r.Target.Version, errs)
}

// errClosed says that the version before runs again and has ended the trial
// itself: the host is its own from then on, perhaps with another trial.
var errClosed = errors.New("the trial is closed")

func closed(f File, operation string) bool {
	r, err := f.Read()
	return err == nil && (r.Operation != operation || r.Verdict != "")
}

// putBack brings one version back and waits until it answers. Version "" is the
// base, whichever version it is.
func putBack(ctx context.Context, f File, h Host, operation string, s Side, not string) error {
	if closed(f, operation) {
		return errClosed
	}
	if err := h.Swing(s.Link); err != nil {
		return err
	}
	// A refresh that fails may have done its work for us, or another extension
	// may stand in its way: who answers in the end is what counts.
	rerr := h.Refresh(ctx)
	if closed(f, operation) { // systemd has started it again meanwhile
		return errClosed
	}
	if err := h.Restart(ctx); err != nil {
		return errors.Join(rerr, err)
	}
	wctx, cancel := context.WithTimeoutCause(ctx, returnWait, errors.New("it does not answer"))
	defer cancel()
	for {
		version, err := h.Version(wctx)
		if err == nil && (version == s.Version || s.Version == "" && version != not) {
			return nil
		}
		if err := pause(wctx, interval/2); err != nil {
			return errors.Join(rerr, fmt.Errorf("wait for trident %s: %w", s.Version, err))
		}
	}
}
