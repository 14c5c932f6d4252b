// Package boottest has a boot loader in memory (Fake), a model of a machine that boots
// (Machine), and the suite for both the Fake and the real loader on a Machine. The suite
// makes tests with the Fake valid for the real loader.
package boottest

import (
	"context"
	"fmt"
	"sync"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// Fake is a boot loader in memory. The zero value is a new host. It is safe for concurrent
// use.
type Fake struct {
	// Hook, if set before the first call, is called before each change with the method:
	// Stage, Try, Keep or Forget. If Hook fails, the method returns its error.
	Hook func(method string, s slot.Slot) error
	// Full says that the ESP has no room for boot files.
	Full bool

	mu                  sync.Mutex
	slots               slot.Pair[system]
	staged              system
	stagedFor           slot.Slot
	booted, deflt, next slot.Slot
}

type system struct {
	number int // 0: none
	uname  string
}

var _ boot.Loader = (*Fake)(nil)

// Boot starts the machine: the system on trial if there is one, else the default, else the
// newest. A trial ends with the boot. Boot fails with ErrDark if nothing boots.
func (f *Fake) Boot() (Booted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.next
	if f.next = 0; !s.Valid() {
		s = f.deflt
	}
	if !s.Valid() {
		if s = slot.A; f.slots.B.number > f.slots.A.number {
			s = slot.B
		}
	}
	if f.booted = 0; f.slots.Of(s).number == 0 {
		return Booted{}, ErrDark
	}
	f.booted = s
	return Booted{s, f.slots.Of(s).uname}, nil
}

// Entries implements [boot.Loader].
func (f *Fake) Entries(ctx context.Context) (boot.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return boot.State{}, errkind.Errorf(errkind.Cancelled, "read the boot entries: %w", err)
	}
	name := func(s system, letter string) string {
		if s.number == 0 {
			return ""
		}
		return fmt.Sprintf("vmlinuz-%d-azl%s0.efi", s.number, letter)
	}
	return boot.State{
		Names:  slot.Pair[string]{A: name(f.slots.A, "a"), B: name(f.slots.B, "b")},
		Staged: f.stagedFor, Booted: f.booted, Next: f.next, Default: f.deflt,
	}, nil
}

// change calls do with the system of slot s, if Hook allows the change.
func (f *Fake) change(ctx context.Context, method string, s slot.Slot, do func(mine *system) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errkind.With(errkind.Cancelled, ctx.Err())
	if !s.Valid() {
		err = errkind.Errorf(errkind.Internal, "the slot is not given")
	}
	if err == nil && f.Hook != nil {
		err = f.Hook(method, s)
	}
	if err == nil {
		err = do(map[slot.Slot]*system{slot.A: &f.slots.A, slot.B: &f.slots.B}[s])
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, s, err)
	}
	return nil
}

var (
	errInUse   = errkind.Errorf(errkind.Precondition, "the slot is running, or is the default")
	errNothing = errkind.Errorf(errkind.NotFound, "there is nothing to boot")
)

// Stage implements [boot.Loader].
func (f *Fake) Stage(ctx context.Context, s slot.Slot, p *boot.Payload) error {
	return f.change(ctx, "Stage", s, func(*system) error {
		switch {
		case s == f.booted || s == f.deflt:
			return errInUse
		case p.UKI().Arch != boot.AMD64:
			return errkind.Errorf(errkind.Incompatible, "it is for %s", p.UKI().Arch)
		case f.Full:
			return errkind.Errorf(errkind.NoSpace, "there is no room")
		}
		f.end(s)
		f.staged, f.stagedFor = system{max(f.slots.A.number+1, f.slots.B.number+1, 100), p.UKI().Uname}, s
		return nil
	})
}

// end ends a trial of s.
func (f *Fake) end(s slot.Slot) {
	if f.next == s {
		f.next = 0
	}
}

// Try implements [boot.Loader].
func (f *Fake) Try(ctx context.Context, s slot.Slot) error {
	return f.change(ctx, "Try", s, func(mine *system) error {
		if !f.deflt.Valid() && f.slots.Other(s).number > 0 {
			f.deflt = s.Other()
		}
		if f.stagedFor == s {
			*mine, f.staged, f.stagedFor = f.staged, system{}, 0
		}
		if mine.number == 0 {
			return errNothing
		}
		f.next = s
		return nil
	})
}

// Keep implements [boot.Loader].
func (f *Fake) Keep(ctx context.Context, s slot.Slot) error {
	return f.change(ctx, "Keep", s, func(mine *system) error {
		if mine.number == 0 {
			return errNothing
		}
		f.end(s.Other())
		f.deflt = s
		return nil
	})
}

// Forget implements [boot.Loader].
func (f *Fake) Forget(ctx context.Context, s slot.Slot) error {
	return f.change(ctx, "Forget", s, func(mine *system) error {
		if s == f.booted || s == f.deflt && f.slots.Other(s).number > 0 {
			return errInUse
		}
		f.end(s)
		if f.deflt == s {
			f.deflt = 0
		}
		if f.stagedFor == s {
			f.staged, f.stagedFor = system{}, 0
		}
		*mine = system{}
		return nil
	})
}
