package rescue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Figures of the judgement.
const (
	observeEvery    = time.Second      // between two looks
	witnessAfter    = 3                // answers of the target in a row
	crashLimit      = 3                // ends of the target that nobody excuses
	foreignLimit    = 3                // answers of a third version in a row
	silenceLimit    = 15 * time.Second // without an answer after the target has answered
	answerTimeout   = 5 * time.Second  // for one answer
	socketMissLimit = 2                // looks at which the socket is not there, in a row
	repairEvery     = 10 * time.Second // between two tries to make the socket again
	inquestAttempts = 3                // until the journal must know how a process ended
	maxWatches      = 4                // boots that a trial may take
	returnTries     = 3                // to put a version back, before a deeper fall-back
	returnTimeout   = 45 * time.Second // for a version that was put back to answer
	writeTries      = 10               // to write that the target is given up
	noRecordTimeout = 3 * time.Minute  // without any answer and without a record
)

// A Unit is what systemd says of tridentd.service.
type Unit struct {
	Active   string // ActiveState
	Restarts int    // NRestarts
	PID      int    // MainPID
	Run      string // InvocationID
}

// A Host is what the rescuer can see and do. The real one is SystemHost.
type Host interface {
	// Version asks whoever answers on Trident's socket. ErrNoSocket means that
	// there is no socket to ask through.
	Version(ctx context.Context) (string, error)
	// Unit asks systemd about the daemon.
	Unit(ctx context.Context) (Unit, error)
	// SetLink makes the extension link point to link, or removes it for "".
	SetLink(link string) error
	// Refresh has systemd merge what the link says.
	Refresh(ctx context.Context) error
	// Restart forgets failures and starts the daemon anew, and the socket where
	// it is down or its file is gone.
	Restart(ctx context.Context) error
	// Logf says something in the journal.
	Logf(format string, args ...any)
}

// A Historian is a Host that knows how the daemon's processes ended. Without it
// every end is one for an unknown reason.
type ExitReader interface {
	// Exits lists how the last processes of the daemon ended in this boot, in
	// order. An end without a failure is not listed.
	Exits(ctx context.Context) ([]Exit, error)
}

// An Exit is how one process of the daemon ended.
type Exit struct {
	Run string // Unit.Run of the process
	// Killed: by SIGKILL, which somebody else or, for want of memory, the kernel
	// has sent. Otherwise the process has ended by its own doing: with an exit
	// code, by a crash, or by not feeding its watchdog.
	Killed bool
}

// ErrNoSocket means that Trident's socket is not there, or that nobody listens
// there. systemd listens also while no daemon runs, so that neither version is to
// blame.
var ErrNoSocket = errors.New("the socket is gone")

const reasonRecordLost = "the rescuer's record of the trial was lost"

// Watch judges the trial in the record until it has a verdict, and returns the
// host to the previous version when the target does not prove itself. It
// returns nil when there is nothing (more) to judge.
//
// It may be ended at any moment and called again: the deadline goes on.
func Watch(ctx context.Context, f File, h Host) error {
	r, err := f.Read()
	if errors.Is(err, ErrNoTrial) || err == nil && r.Verdict != "" {
		return nil
	}
	if err != nil {
		return errors.Join(err, f.returnWithoutRecord(ctx, h))
	}
	boot, up := f.BootClock()
	if boot == "" || r.Boot != boot {
		r.Watches, r.Boot, r.Since = r.Watches+1, boot, up.Milliseconds()
		err := f.Update(r.Operation, func(w *Record) error {
			w.Watches, w.Boot, w.Since = r.Watches, r.Boot, r.Since
			return nil
		})
		if err != nil { // the record in memory has it
			h.Logf("%v", err)
		}
	}
	j := judge{start: time.Now(), spentBefore: r.Elapsed(boot, up)}
	for {
		current, bothCopies, err := f.read(r.Operation)
		switch {
		case err != nil:
			h.Logf("%v", err)
			if f.hasEnded(ctx, h, r) {
				return nil
			}
			return ignoreNoTrial(giveUp(ctx, f, h, r, reasonRecordLost, true))
		case current.Verdict != "" || current.Operation != r.Operation:
			// The next trial has a rescuer of its own, which has seen nothing of this.
			return nil
		}
		current.Watches, current.Boot, current.Since = r.Watches, r.Boot, r.Since
		r = current
		if !bothCopies {
			h.Logf("writing the record of the trial anew: a copy of it is damaged")
			if err := f.Update(r.Operation, func(*Record) error { return nil }); ignoreNoTrial(err) != nil {
				h.Logf("%v", err)
			}
		}
		if err := f.repairBootUnit(r.Operation); err != nil {
			h.Logf("%v", err)
		}
		doubt := j.observe(ctx, h, r)
		if j.isWitnessed() && !r.Witnessed && !r.Returning {
			h.Logf("trident %s has answered %d times in a row", r.Target.Version, witnessAfter)
			err := f.Update(r.Operation, func(r *Record) error { r.Witnessed = true; return nil })
			if ignoreNoTrial(err) != nil {
				h.Logf("%v", err)
			}
		}
		if doubt != "" {
			return ignoreNoTrial(giveUp(ctx, f, h, r, doubt, j.blameless))
		}
		if err := pause(ctx, observeEvery); err != nil {
			return err
		}
	}
}

// returnWithoutRecord returns to the base, if there is one and nobody answers for
// blindWait, for a rescuer that has never read the record of its trial. A daemon
// that answers settles the trial by its journal.
func (f File) returnWithoutRecord(ctx context.Context, h Host) error {
	if f.Root == "" {
		return nil
	}
	// Not BaseVersion: the rescuer's unit may not mount, and what the file says does
	// not matter here.
	if _, err := os.Stat(filepath.Join(f.Root, Base)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < noRecordTimeout; {
		if _, err := callWithTimeout(ctx, h.Version); err == nil {
			return nil
		}
		if err := pause(ctx, observeEvery); err != nil {
			return err
		}
	}
	h.Logf("nobody answers, and what the trial returns to is not known: returning to the base")
	if err := h.SetLink(""); err != nil {
		return err
	}
	return errors.Join(h.Refresh(ctx), h.Restart(ctx))
}

// hasEnded reports whether a trial whose record is lost was over before: then its
// boot unit is gone as well, and one of the two versions answers.
func (f File) hasEnded(ctx context.Context, h Host, r Record) bool {
	if f.Root == "" {
		return false
	}
	if _, err := os.Lstat(filepath.Join(f.Root, BootWantsPath)); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	version, err := callWithTimeout(ctx, h.Version)
	return err == nil && (version == r.Target.Version || version == r.Previous.Version)
}

func ignoreNoTrial(err error) error {
	if errors.Is(err, ErrNoTrial) || errors.Is(err, ErrKept) {
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

// callWithTimeout bounds one question. The socket takes a call also while no daemon runs, so
// that asking for the version may take all of its time, and what comes next has
// to have its own.
func callWithTimeout[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return question(ctx)
}

// giveUp decides against the target and returns the host to the previous version.
// r is what the rescuer remembers of the record.
func giveUp(ctx context.Context, f File, h Host, r Record, reason string, blameless bool) error {
	if !r.Returning {
		r.Reason, r.Blameless = reason, blameless
	}
	for try := range writeTries {
		err := f.GiveUp(r)
		if err == nil {
			break
		}
		if errors.Is(err, ErrKept) {
			return err
		}
		if errors.Is(err, ErrLocked) {
			h.Logf("%v", err)
			break
		}
		h.Logf("try %d of %d to write that trident %s is given up: %v", try+1, writeTries, r.Target.Version, err)
		if err := pause(ctx, observeEvery); err != nil {
			return err
		}
	}
	r.Returning = true
	h.Logf("giving up trident %s: %s", r.Target.Version, r.Reason)
	sides := []Side{r.Previous}
	if r.Previous.Link != "" {
		sides = append(sides, Side{}) // the base, if all else fails
	}
	var errs error
	for _, side := range sides {
		for try := range returnTries {
			err := restore(ctx, f, h, r.Operation, side, r.Target.Version)
			if errors.Is(err, errClosed) {
				h.Logf("trident is back from %s by itself", r.Target.Version)
				return nil
			}
			if err == nil {
				h.Logf("trident is back from %s", r.Target.Version)
				r.Verdict = Returned
				if err := f.GiveUp(r); !errors.Is(err, ErrLocked) {
					return err
				}
				return nil
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

func isClosed(f File, operation string) bool {
	r, _, err := f.read(operation)
	return err == nil && (r.Operation != operation || r.Verdict != "")
}

// restore brings one version back and waits until it answers. Version "" is the
// base, whichever version it is.
func restore(ctx context.Context, f File, h Host, operation string, s Side, not string) error {
	if isClosed(f, operation) {
		return errClosed
	}
	if err := h.SetLink(s.Link); err != nil {
		return err
	}
	// A refresh that fails may have done its work for us, or another extension
	// may stand in its way: who answers in the end is what counts.
	rerr := h.Refresh(ctx)
	if isClosed(f, operation) { // systemd has started it again meanwhile
		return errClosed
	}
	if err := h.Restart(ctx); err != nil {
		return errors.Join(rerr, err)
	}
	wctx, cancel := context.WithTimeoutCause(ctx, returnTimeout, errors.New("it does not answer"))
	defer cancel()
	for {
		version, err := h.Version(wctx)
		if err == nil && (version == s.Version || s.Version == "" && version != not) {
			return nil
		}
		if err := pause(wctx, observeEvery/2); err != nil {
			return errors.Join(rerr, fmt.Errorf("wait for trident %s: %w", s.Version, err))
		}
	}
}
