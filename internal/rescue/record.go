// Package rescue judges a new version of Trident from outside of that version, and
// restores the previous version if the new one fails.
//
// The new daemon may never start, may hang, or may wrongly believe that it is
// healthy. So the judge is another process with another binary, in a cgroup of its
// own, copied out of the overlay that it may have to remove. It uses the standard
// library only and shares one small record with the engine: the less code the two
// share, the fewer faults can hit both at once.
//
// The daemon and the rescuer agree through the record alone. Both change it under
// a lock, and its verdict is given once: either the daemon keeps the new version
// or the rescuer returns to the previous one, whichever is first. The record is on
// disk in two copies (see File). The rescuer has a third copy in memory, and the
// daemon's journal has all that is needed to write the record anew. If the record
// is lost nevertheless, the new version is given up.
package rescue

import (
	"errors"
	"fmt"
	"time"
)

// Verdict says how a trial ended; it is empty until then.
type Verdict string

// The verdicts.
const (
	Kept     Verdict = "kept"     // the target is the version of this host
	Returned Verdict = "returned" // the previous version is the version of this host
)

// A Side is one of the two versions of a trial.
type Side struct {
	Version string `json:"version"`
	// Link is the target of the extension link for this version; empty for the base,
	// which needs no link.
	Link string `json:"link"`
}

// A Record describes a trial. Other versions read it: add fields, never rename,
// remove or retype one.
type Record struct {
	Operation string `json:"operation"`
	Previous  Side   `json:"previous"`
	Target    Side   `json:"target"`
	// Deadline is the number of seconds, counted from the moment at which a rescuer
	// first resumes the trial in a boot, within which the target must be kept.
	Deadline int `json:"deadline_seconds"`
	// Activating is set just before Trident repoints the link to the target. From
	// then on systemd may start the target by itself, after a crash or a boot.
	Activating bool `json:"activating,omitempty"`
	// Restarting is set just before Trident restarts the daemon into the target.
	// From then on only the target should answer.
	Restarting bool `json:"restarting"`
	// Witnessed is set by the rescuer when the target has answered several times in
	// a row. The daemon keeps only a witnessed target.
	Witnessed bool `json:"witnessed"`
	// Returning is set, with the reason, by the daemon or the rescuer when it gives
	// the target up.
	Returning bool   `json:"returning"`
	Reason    string `json:"reason,omitempty"`
	// Blameless is set with Returning if no failure of the target was seen. Trident
	// does not block the version then.
	Blameless bool `json:"blameless,omitempty"`
	// Watches counts the boots in which a rescuer watched this trial.
	Watches int `json:"watches"`
	// Boot is the ID of the last of these boots. Since is how many milliseconds that
	// boot had been running when a rescuer first watched the trial in it; a rescuer
	// that starts again in the same boot goes on counting from there.
	Boot    string  `json:"boot,omitempty"`
	Since   int64   `json:"since_milliseconds,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
}

// maxDeadline bounds Deadline, in seconds. It is far above what a caller can
// request: a record with more is damaged.
const maxDeadline = 7 * 24 * 60 * 60

// check returns an error for a value that no rescuer and no daemon writes.
func (r Record) check() error {
	switch {
	case r.Operation == "":
		return errors.New("the field operation is empty")
	case r.Deadline <= 0 || r.Deadline > maxDeadline:
		return fmt.Errorf("the deadline of %d seconds is not between 1 and %d", r.Deadline, maxDeadline)
	case r.Verdict != "" && r.Verdict != Kept && r.Verdict != Returned:
		return fmt.Errorf("unknown verdict %.40q", r.Verdict)
	}
	return nil
}

// deadline is Deadline as a duration.
func (r Record) deadline() time.Duration { return time.Duration(r.Deadline) * time.Second }

// Elapsed returns how long a rescuer has watched the trial in the current boot,
// which has the ID boot and has been running for up. It returns 0 if no rescuer
// has watched the trial in this boot.
func (r Record) Elapsed(boot string, up time.Duration) time.Duration {
	if boot == "" || r.Boot != boot {
		return 0
	}
	return max(0, up-time.Duration(r.Since)*time.Millisecond)
}

// giveUp records that the target is given up. A reason that was recorded before
// stays. giveUp returns ErrKept if the target was kept.
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
	// ErrNoTrial means that there is no record, or that the record belongs to
	// another operation.
	ErrNoTrial = errors.New("there is no trial")
	// ErrRecordLost means that a record exists and no copy of it can be read. The
	// target is given up then.
	ErrRecordLost = errors.New("the record of the trial is lost")
	// ErrKept means that the target was kept and can no longer be given up.
	ErrKept = errors.New("the new version was kept")
	// ErrLocked means that another process holds the lock of the record.
	ErrLocked = errors.New("another process holds the lock")
)

// Read returns the record of the trial of any operation, ErrNoTrial or
// ErrRecordLost.
func (f File) Read() (Record, error) {
	r, _, err := f.read("")
	return r, err
}

// Trial returns the record of the trial of operation, ErrNoTrial or ErrRecordLost.
func (f File) Trial(operation string) (Record, error) {
	r, _, err := f.read(operation)
	if err == nil && r.Operation != operation {
		return Record{}, fmt.Errorf("%w of operation %s: the record is of operation %.80q", ErrNoTrial, operation, r.Operation)
	}
	return r, err
}

// Begin writes the record of a new trial over the record of an old one. If the
// trial of the same operation has begun, Begin keeps its record.
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

// Update changes the record of the trial of operation, and writes both copies
// again if one is damaged. If change returns an error, Update returns it and
// writes nothing. ErrNoTrial means that the operation has no trial.
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

// Keep gives the verdict that the target stays. It fails, with the reason, if the
// target was given up before; and it fails if the record is lost or locked,
// because another process may be giving the target up.
func (f File) Keep(operation string) error {
	return f.Update(operation, func(r *Record) error {
		if r.Verdict == Returned || r.Returning {
			return fmt.Errorf("the new version was given up: %s", r.Reason)
		}
		r.Verdict = Kept
		return nil
	})
}

// GiveUp gives the target up for r.Reason. A reason that was recorded before
// stays. r is what the caller knows of the trial without the record; GiveUp writes
// r in place of a lost record. GiveUp waits for up to lockTimeout for a lock that
// another process holds, and then writes without the lock. If r.Verdict is
// Returned, GiveUp closes the trial as well.
//
// ErrKept means that the target was kept. ErrLocked means that the record was
// written without the lock. Any other error means that the record could not be
// written; the caller returns to the previous version nevertheless.
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
	return fmt.Errorf("%w: the record was written without the lock", err)
}
