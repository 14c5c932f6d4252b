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

// Limits of the judgement.
const (
	observeEvery    = time.Second      // between two observations
	witnessAfter    = 3                // consecutive answers of the target
	crashLimit      = 3                // ends of the target that count against it
	foreignLimit    = 3                // consecutive answers of a third version
	silenceLimit    = 15 * time.Second // without an answer after the target has answered
	answerTimeout   = 5 * time.Second  // for one answer
	socketMissLimit = 2                // consecutive observations without a socket
	repairEvery     = 10 * time.Second // between two attempts to recreate the socket
	inquestAttempts = 3                // observations until the journal must have the end of a process
	maxWatches      = 4                // boots that a trial may take
	returnTries     = 3                // attempts to restore a version, before the rescuer falls back to the base
	returnTimeout   = 45 * time.Second // for a restored version to answer
	writeTries      = 10               // attempts to record that the target is given up
	noRecordTimeout = 3 * time.Minute  // without any answer and without a record
)

// A Unit is the state of tridentd.service in systemd.
type Unit struct {
	Active   string // ActiveState
	Restarts int    // NRestarts
	PID      int    // MainPID
	Run      string // InvocationID
}

// A Host is what the rescuer can ask and change. SystemHost is the real one.
type Host interface {
	// Version asks the daemon behind Trident's socket for its version. It returns
	// ErrNoSocket if there is no socket.
	Version(ctx context.Context) (string, error)
	// Unit asks systemd for the state of the daemon's unit.
	Unit(ctx context.Context) (Unit, error)
	// SetLink repoints the extension link to link, or removes it if link is "".
	SetLink(link string) error
	// Refresh has systemd merge the extension that the link points to.
	Refresh(ctx context.Context) error
	// Restart resets the failed state of the units and restarts the daemon. It also
	// restarts the socket if the socket is down or its file is missing.
	Restart(ctx context.Context) error
	// Logf writes a line to the journal.
	Logf(format string, args ...any)
}

// An ExitReader is a Host that knows how the daemon's processes ended. On any
// other Host the cause of every end is unknown.
type ExitReader interface {
	// Exits lists how the last processes of the daemon ended in this boot, in order.
	// It omits ends without a failure.
	Exits(ctx context.Context) ([]Exit, error)
}

// An Exit is how one process of the daemon ended.
type Exit struct {
	Run string // Unit.Run of the process
	// Killed says that the process ended by SIGKILL, sent by another process or,
	// when memory ran out, by the kernel. Otherwise the process ended by its own
	// doing: with an exit code, by a crash, or because it did not feed its watchdog.
	Killed bool
}

// ErrNoSocket means that Trident's socket does not exist, or that no process
// listens on it. systemd listens even while no daemon runs, so neither version is
// to blame.
var ErrNoSocket = errors.New("the socket is gone")

const reasonRecordLost = "the rescuer's record of the trial was lost"

// Watch judges the trial in the record until the trial has a verdict, and returns
// the host to the previous version if the target fails. It returns nil if no trial
// is open.
//
// A caller may cancel Watch at any moment and call it again: the deadline of the
// trial goes on.
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
		if err != nil { // the record in memory has the values
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
			// The next trial has a rescuer of its own.
			return nil
		}
		current.Watches, current.Boot, current.Since = r.Watches, r.Boot, r.Since
		r = current
		if !bothCopies {
			h.Logf("a copy of the trial's record is damaged: writing both again")
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

// returnWithoutRecord is for a rescuer that has never read the record of its
// trial. It returns the host to the base if a base exists and no daemon answers
// for noRecordTimeout. A daemon that answers settles the trial by its journal.
func (f File) returnWithoutRecord(ctx context.Context, h Host) error {
	if f.Root == "" {
		return nil
	}
	// BaseVersion mounts, which the rescuer's unit may not do; the content of the
	// file does not matter here.
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
	h.Logf("no daemon answers, and the previous version is unknown: returning to the base")
	if err := h.SetLink(""); err != nil {
		return err
	}
	return errors.Join(h.Refresh(ctx), h.Restart(ctx))
}

// hasEnded reports whether a trial had ended before its record was lost: then its
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

// callWithTimeout calls question with a context that ends after answerTimeout.
// systemd's socket accepts calls even while no daemon runs, so that a call of
// Version may use up all of its time; the next question needs a time of its own.
func callWithTimeout[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return question(ctx)
}

// giveUp records that the target is given up, and returns the host to the previous
// version. r is the record as the rescuer last read it.
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
		sides = append(sides, Side{}) // the base, if the previous version does not answer
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

// errClosed means that the previous version runs again and has ended the trial
// itself. The rescuer must change nothing more: the host may already have another
// trial.
var errClosed = errors.New("the trial is closed")

func isClosed(f File, operation string) bool {
	r, _, err := f.read(operation)
	return err == nil && (r.Operation != operation || r.Verdict != "")
}

// restore activates one version and waits until that version answers. Version ""
// is the base, whichever version the base has.
func restore(ctx context.Context, f File, h Host, operation string, s Side, not string) error {
	if isClosed(f, operation) {
		return errClosed
	}
	if err := h.SetLink(s.Link); err != nil {
		return err
	}
	// A refresh that fails may still have merged this extension, or another
	// extension may be the cause: only the version that answers counts.
	rerr := h.Refresh(ctx)
	if isClosed(f, operation) { // systemd has started the previous version meanwhile
		return errClosed
	}
	if err := h.Restart(ctx); err != nil {
		return errors.Join(rerr, err)
	}
	wctx, cancel := context.WithTimeoutCause(ctx, returnTimeout, errors.New("the daemon does not answer"))
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
