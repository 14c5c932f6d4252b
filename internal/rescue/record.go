// Package rescue judges a new version of Trident from outside of it, and puts
// the last good one back.
//
// The new daemon may never start, may hang, or may believe itself healthy when
// it is not; so the judge is another process with another binary, in a cgroup of
// its own, copied out of the overlay that it may have to take away. It uses the
// standard library only and shares with the engine no more than one small file,
// the record: the less it links, the less can be wrong with both at once.
//
// The record is the only thing that daemon and rescuer agree through. It is
// changed under a lock, and its verdict is given once: whoever is first, the
// daemon that keeps the new version or the rescuer that returns to the old one,
// has decided.
package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Names under the folder of the rescuer, /var/lib/trident/self.
const (
	recordName = "rescue.json"
	lockName   = "rescue.lock"
)

// maxRecord bounds the record in bytes.
const maxRecord = 64 << 10

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
	// Deadline is how many seconds after the rescuer's start, or the boot of
	// the host, the target must have been kept.
	Deadline int `json:"deadline_seconds"`
	// Restarting is set just before the daemon is restarted into the target:
	// from then on only the target should answer.
	Restarting bool `json:"restarting"`
	// Witnessed is set by the rescuer when the target has answered it several
	// times in a row. Without it the target is not kept.
	Witnessed bool `json:"witnessed"`
	// Returning is set by whoever gives the target up, with the reason.
	Returning bool   `json:"returning"`
	Reason    string `json:"reason,omitempty"`
	// Watches counts how often a rescuer took this trial up: once, and once
	// more for each boot.
	Watches int     `json:"watches"`
	Verdict Verdict `json:"verdict,omitempty"`
}

// A File is the record on disk.
type File struct {
	// Dir is the folder that has it.
	Dir string
}

// ErrNone means that there is no record.
var ErrNone = errors.New("there is no trial")

// Read returns the record, or ErrNone.
func (f File) Read() (Record, error) {
	var r Record
	path := filepath.Join(f.Dir, recordName)
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, ErrNone
	case err != nil:
		return r, fmt.Errorf("read rescue record: %w", err)
	case fi.Size() > maxRecord:
		return r, fmt.Errorf("read rescue record: %s is larger than %d bytes", path, maxRecord)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read rescue record: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read rescue record %s: %w", path, err)
	}
	return r, nil
}

// Begin writes the record of a new trial over that of an old one. Beginning the
// same operation's trial again leaves the record as it is.
func (f File) Begin(r Record) error {
	return f.locked(func() error {
		if old, err := f.Read(); err == nil && old.Operation == r.Operation {
			return nil
		}
		return f.write(r)
	})
}

// Update changes the record of an operation's trial. change may refuse with an
// error; then nothing is written. ErrNone means that there is no such trial.
func (f File) Update(operation string, change func(*Record) error) error {
	return f.locked(func() error {
		r, err := f.Read()
		if err != nil {
			return err
		}
		if r.Operation != operation {
			return ErrNone
		}
		old := r
		if err := change(&r); err != nil || r == old {
			return err
		}
		return f.write(r)
	})
}

// Keep gives the verdict that the target stays. It is an error, with the reason,
// if it was given up before.
func (f File) Keep(operation string) error {
	return f.Update(operation, func(r *Record) error {
		if r.Verdict == Returned || r.Returning {
			return fmt.Errorf("it was given up: %s", r.Reason)
		}
		r.Verdict = Kept
		return nil
	})
}

// ErrKept means that the target was kept and cannot be given up any more.
var ErrKept = errors.New("the new version was kept")

// Return gives the target up, for a reason; the first reason stays. ErrKept if
// the verdict is against it.
func (f File) Return(operation, reason string) error {
	return f.Update(operation, func(r *Record) error {
		if r.Verdict == Kept {
			return ErrKept
		}
		if !r.Returning {
			r.Returning, r.Reason = true, reason
		}
		return nil
	})
}

// Close gives the verdict that the previous version is back.
func (f File) Close(operation string) error {
	return f.Update(operation, func(r *Record) error {
		if r.Verdict == "" {
			r.Verdict = Returned
		}
		return nil
	})
}

func (f File) write(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(f.Dir, recordName), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write rescue record: %w", err)
	}
	return nil
}

// locked runs do while nobody else changes the record.
func (f File) locked(do func() error) (err error) {
	lock, err := os.OpenFile(filepath.Join(f.Dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock rescue record: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if err == nil {
			_ = atomicfile.Sweep(filepath.Join(f.Dir, recordName)) // what stays does no harm
			return do()
		}
		if err != syscall.EINTR {
			return fmt.Errorf("lock rescue record: %w", err)
		}
	}
}

// deadline is how long a trial may take from when it was taken up.
func (r Record) deadline() time.Duration { return time.Duration(r.Deadline) * time.Second }
