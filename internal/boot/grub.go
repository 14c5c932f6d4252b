package boot

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Files of GRUB in the folder of a slot. GRUB reads the configuration beside itself, and that
// names the file system with the kernel of the slot, so the firmware alone chooses the slot:
// by BootNext and BootOrder.
const (
	grubConfig = "grub.cfg"
	// grubStaged is the configuration before Try gives it its name. GRUB does not read it.
	grubStaged = grubConfig + ".staged"
)

// grub is shim and GRUB in a folder for each slot.
type grub struct {
	host  Host
	space func(dir string) (free, block int64, err error)
}

var _ Loader = (*grub)(nil)

// grubSession is one call of a method of Loader, with the state of the host as newGrubSession
// read it.
type grubSession struct {
	base
	numbers slot.Pair[[]efivar.Number] // the boot entries on this ESP
	// deflt and next are 0 for none; booted is 0, too, for a firmware that does not say.
	booted, deflt, next slot.Slot
}

// do calls change in a session for slot s, and adds to its error what was being done.
func (l *grub) do(ctx context.Context, doing string, s slot.Slot, change func(*grubSession) error) error {
	if !s.Valid() {
		return errkind.Errorf(errkind.Internal, "%s: the caller named no slot", doing)
	}
	err := l.host.onESP(ctx, func(b base) error {
		b.slot = s
		w, err := newGrubSession(b)
		if err != nil {
			return err
		}
		return change(w)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, label(l.host.Index, s), err)
	}
	return nil
}

// newGrubSession reads the ESP and the firmware variables of the host.
func newGrubSession(b base) (*grubSession, error) {
	w := &grubSession{base: b}
	for _, s := range []slot.Slot{slot.A, slot.B} {
		entries, err := w.entries(s)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if w.isOurs(e) {
				w.numbers = with(w.numbers, s, append(w.numbers.Of(s), e.Number))
			}
		}
	}
	order, err := efivar.BootOrder(w.Vars)
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameListAndParseBootEntries)
	}
	previous, err := w.labelled(previousLabel)
	if err != nil {
		return nil, err
	}
	both := w.canBoot(slot.A) && w.canBoot(slot.B)
	for _, n := range order {
		if !both && slices.ContainsFunc(previous, func(e efivar.Entry) bool { return e.Number == n }) {
			break // the slot after it is on trial against that system
		}
		if s := w.slotOf(n); s.Valid() && w.canBoot(s) {
			w.deflt = s
			break
		}
	}
	current, ok, err := efivar.BootCurrent(w.Vars)
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameReadEfiVariable)
	}
	if ok {
		w.booted = w.slotOf(current)
	}
	next, ok, err := efivar.BootNext(w.Vars)
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameReadEfiVariable)
	}
	if ok {
		w.next = w.slotOf(next)
	}
	return w, nil
}

func with[T any](p slot.Pair[T], s slot.Slot, v T) slot.Pair[T] {
	if s == slot.A {
		p.A = v
	} else {
		p.B = v
	}
	return p
}

// slotOf returns the slot of a boot entry, or none.
func (w *grubSession) slotOf(n efivar.Number) slot.Slot {
	for _, s := range []slot.Slot{slot.A, slot.B} {
		if slices.Contains(w.numbers.Of(s), n) {
			return s
		}
	}
	return 0
}

// config returns the path of the configuration of slot s.
func (w *grubSession) config(s slot.Slot) string { return path.Join(w.folder(s), grubConfig) }

// canBoot reports whether the folder of slot s has what boots it.
func (w *grubSession) canBoot(s slot.Slot) bool {
	return w.esp.has(w.config(s)) && w.esp.has(w.loaderOf(s))
}

func (w *grubSession) staged(s slot.Slot) bool {
	return w.esp.has(path.Join(w.folder(s), grubStaged))
}

// unused fails if the slot runs, or if it is the default and the other slot can boot. A
// default without another system is an installation that is repeated or given up.
func (w *grubSession) unused() error {
	switch {
	case w.slot == w.booted:
		return errRuns
	case w.slot == w.deflt && w.canBoot(w.slot.Other()):
		return errIsDefault
	}
	return nil
}

// Entries implements [Loader].
func (l *grub) Entries(ctx context.Context) (State, error) {
	var st State
	err := l.host.onESP(ctx, func(b base) error {
		w, err := newGrubSession(b)
		if err != nil {
			return err
		}
		for _, s := range []slot.Slot{slot.A, slot.B} {
			if w.canBoot(s) {
				st.Names = with(st.Names, s, w.config(s))
			}
			if w.staged(s) {
				st.Staged = s
			}
		}
		st.Booted, st.Next, st.Default = w.booted, w.next, w.deflt
		return nil
	})
	if err != nil {
		return State{}, fmt.Errorf("read the boot entries: %w", err)
	}
	return st, nil
}
