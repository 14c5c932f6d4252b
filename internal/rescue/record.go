// Package rescue judges a new version of Trident from outside of it, and puts
// the last good one back.
//
// The new daemon may never start, may hang, or may believe itself healthy when
// it is not; so the judge is another process with another binary, in a cgroup of
// its own, copied out of the overlay that it may have to take away. It uses the
// standard library only and shares with the engine no more than one small
// record: the less it links, the less can be wrong with both at once.
//
// The record is the only thing that daemon and rescuer agree through. It is
// changed under a lock, and its verdict is given once: whoever is first, the
// daemon that keeps the new version or the rescuer that returns to the old one,
// has decided. It lies on disk in two copies (see File); the rescuer has a third
// one in memory, the daemon's journal has what is needed to make it anew. A
// record that is lost all the same means that the new version is given up.
package rescue

import (
	"errors"
	"fmt"
	"time"
)

// Verdict says how a trial ended; empty while it has not.
type Verdict string

// The verdicts.
const (
	Kept     Verdict = "kept"     // the target is the version of this host
	Returned Verdict = "returned" // the previous version is
)

// A Side is one of the two versions of a trial.
type Side struct {
	Version string `json:"version"`
	// Link is what the extension link points to for this version; empty for
	// the base, which needs no link.
	Link string `json:"link"`
}

// A Record is a trial. Fields are only ever added.
type Record struct {
	Operation string `json:"operation"`
	Previous  Side   `json:"previous"`
	Target    Side   `json:"target"`
	// Deadline is how many seconds after a rescuer first took the trial up in a
	// boot the target must have been kept.
	Deadline int `json:"deadline_seconds"`
	// Activating is set just before the link is swung to the target: from then on
	// systemd may start the target by itself, after a crash or a boot.
	Activating bool `json:"activating,omitempty"`
	// Restarting is set just before the daemon is restarted into the target:
	// from then on only the target should answer.
	Restarting bool `json:"restarting"`
	// Witnessed is set by the rescuer when the target has answered it several
	// times in a row. Without it the target is not kept.
	Witnessed bool `json:"witnessed"`
	// Returning is set by whoever gives the target up, with the reason.
	Returning bool   `json:"returning"`
	Reason    string `json:"reason,omitempty"`
	// Blameless is set with Returning when nobody saw the target fail. The
	// version is not blocked then.
	Blameless bool `json:"blameless,omitempty"`
	// Watches counts the boots in which a rescuer took this trial up.
	Watches int `json:"watches"`
	// Boot is the ID of the last of these boots, and Since how many milliseconds
	// that boot had run when the trial was taken up in it. A rescuer that is
	// started again in the same boot goes on counting from there.
	Boot    string  `json:"boot,omitempty"`
	Since   int64   `json:"since_milliseconds,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
}

// maxDeadline bounds Deadline, in seconds. It is far above what a caller can ask
// for: a record with more is damaged.
const maxDeadline = 7 * 24 * 60 * 60

// check reports what no rescuer and no daemon would have written.
func (r Record) check() error {
	switch {
	case r.Operation == "":
		return errors.New("it names no operation")
	case r.Deadline <= 0 || r.Deadline > maxDeadline:
		return fmt.Errorf("the deadline of %d seconds is not between 1 and %d", r.Deadline, maxDeadline)
	case r.Verdict != "" && r.Verdict != Kept && r.Verdict != Returned:
		return fmt.Errorf("unknown verdict %.40q", r.Verdict)
	}
	return nil
}

// deadline is how long a trial may take from when it was taken up.
func (r Record) deadline() time.Duration { return time.Duration(r.Deadline) * time.Second }

// Elapsed is how long ago the trial was taken up in the boot that has run for up,
// and 0 if that is another boot than the last one in which it was.
func (r Record) Elapsed(boot string, up time.Duration) time.Duration {
	if boot == "" || r.Boot != boot {
		return 0
	}
	return max(0, up-time.Duration(r.Since)*time.Millisecond)
}

// giveUp notes that the target is given up. The first reason stays. ErrKept if
// the verdict is against it.
func (r *Record) giveUp(reason string, blameless bool) error {
	if r.Verdict == Kept {
		return ErrKept
	}
	if !r.Returning {
		r.Returning, r.Reason, r.Blameless = true, reason, blameless
	}
	return nil
}

var (
	// ErrNoTrial means that there is no record, or that it is another operation's.
	ErrNoTrial = errors.New("there is no trial")
	// ErrRecordLost means that there was a record and no copy of it can be read. The
	// target is given up then.
	ErrRecordLost = errors.New("the record of the trial is lost")
	// ErrKept means that the target was kept and cannot be given up any more.
	ErrKept = errors.New("the new version was kept")
	// ErrLocked means that another process holds the lock of the record.
	ErrLocked = errors.New("another process holds the lock")
)

// Read returns the record of whichever trial there is, ErrNone or ErrLost.
func (f File) Read() (Record, error) {
	r, _, err := f.read("")
	return r, err
}

// Trial returns the record of an operation's trial, ErrNone or ErrLost.
func (f File) Trial(operation string) (Record, error) {
	r, _, err := f.read(operation)
	if err == nil && r.Operation != operation {
		return Record{}, fmt.Errorf("%w of operation %s: the record is of operation %.80q", ErrNoTrial, operation, r.Operation)
	}
	return r, err
}

// Begin writes the record of a new trial over that of an old one. Beginning the
// same operation's trial again leaves what the record says.
func (f File) Begin(r Record) error {
	return f.withLock(func() error {
		old, bothCopies, err := f.read(r.Operation)
		switch {
		case err != nil || old.Operation != r.Operation:
			return f.write(r)
		case !bothCopies:
			return f.write(old)
		}
		return nil
	})
}

// Update changes the record of an operation's trial, and writes both copies anew
// where one is damaged. change may refuse with an error; then nothing is
// written. ErrNone means that there is no such trial.
func (f File) Update(operation string, change func(*Record) error) error {
	return f.withLock(func() error {
		r, bothCopies, err := f.read(operation)
		if err != nil {
			return err
		}
		if r.Operation != operation {
			return ErrNoTrial
		}
		old := r
		if err := change(&r); err != nil || r == old && bothCopies {
			return err
		}
		return f.write(r)
	})
}

// Keep gives the verdict that the target stays. It is an error, with the reason,
// if it was given up before; and it is one if the record is lost or its lock is
// held, because then somebody else may be giving it up.
func (f File) Keep(operation string) error {
	return f.Update(operation, func(r *Record) error {
		if r.Verdict == Returned || r.Returning {
			return fmt.Errorf("it was given up: %s", r.Reason)
		}
		r.Verdict = Kept
		return nil
	})
}

// GiveUp gives the target up for r.Reason; the first reason that anybody gave stays.
// r is what the caller knows of the trial without the record, and GiveUp writes it in
// place of a record that is lost. GiveUp waits for a lock that another process holds,
// up to lockWait, and then writes without it. With the verdict Returned in r, GiveUp
// closes the trial as well.
//
// ErrKept says that the target was kept. ErrLocked says that the record was written
// without the lock. Any other error says that it could not be written; the caller
// goes on without.
func (f File) GiveUp(r Record) error {
	give := func() error {
		current, bothCopies, err := f.read(r.Operation)
		if err != nil || current.Operation != r.Operation {
			current, bothCopies = r, false
			current.Returning, current.Verdict = false, ""
		}
		old := current
		if err := current.giveUp(r.Reason, r.Blameless); err != nil {
			return err
		}
		if r.Verdict == Returned {
			current.Verdict = Returned
		}
		if current == old && bothCopies {
			return nil
		}
		return f.write(current)
	}
	err := f.withLock(give)
	if !errors.Is(err, ErrLocked) {
		return err
	}
	if gerr := give(); gerr != nil {
		return gerr
	}
	return fmt.Errorf("%w: the record was written without it", err)
}
