package boot

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Try implements [Loader].
func (l *grub) Try(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "arrange a trial of", s, func(w *grubSession) error {
		if w.staged(s) {
			if err := w.unused(); err != nil {
				return err
			}
			if err := w.esp.rename(path.Join(w.folder(s), grubStaged), w.config(s)); err != nil {
				return errkind.WithName(err, errkind.NameUpdateGrubConfigs)
			}
		}
		if err := w.bootable(); err != nil {
			return err
		}
		if err := w.fallbackForTrial(); err != nil {
			return err
		}
		n, err := w.enter()
		if err != nil {
			return err
		}
		return efivar.SetBootNext(w.Vars, n[0]) // decides
	})
}

// bootable checks the files that the slot would boot from.
func (w *grubSession) bootable() error {
	if !w.esp.has(w.config(w.slot)) {
		return errkind.WithName(errkind.Errorf(errkind.NotFound, "the slot has neither staged nor previous boot files"), errkind.NameFindStagedFile)
	}
	f, err := w.esp.file(w.loaderOf(w.slot))
	if err == nil {
		err = f.program(w.Arch)
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("check the boot loader of the slot on the ESP: %w", err), errkind.NameBootEntryCheck)
	}
	return nil
}

// enter makes sure that both slots have boot entries, and returns the numbers of the new one.
// The old slot is before the new one in the order of the firmware. The new one is in the
// order, last, because some firmware deletes an entry that is not, and then BootNext has no
// effect. If no entry of the order boots from this ESP, and EFI/BOOT is another system's, that
// system gets an entry before the new one: else the new one would be the default.
func (w *grubSession) enter() ([]efivar.Number, error) {
	other := w.slot.Other()
	if w.canBoot(other) {
		n, err := w.ensure(other)
		if err != nil {
			return nil, err
		}
		if err := w.order(atEnd(n...)); err != nil {
			return nil, err
		}
	}
	n, err := w.ensure(w.slot)
	if err != nil || w.deflt == w.slot {
		return n, err
	}
	boots, err := w.orderBoots()
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameListAndParseBootEntries)
	}
	if !boots && !w.ownsFallback() {
		previous, err := w.ensureFile(previousLabel, "/"+w.fallbackFile())
		if err != nil {
			return nil, err
		}
		if err := w.order(atEnd(previous...)); err != nil {
			return nil, err
		}
	}
	return n, w.order(last(n...))
}

// orderBoots reports whether an entry in the order of the firmware leads to a file of this ESP.
func (w *grubSession) orderBoots() (bool, error) {
	order, err := efivar.BootOrder(w.Vars)
	if err != nil {
		return false, err
	}
	entries, err := efivar.Entries(w.Vars)
	return slices.ContainsFunc(entries, func(e efivar.Entry) bool {
		_, file, ok := e.Location()
		return ok && slices.Contains(order, e.Number) && w.isOurs(e) && w.esp.has(strings.TrimPrefix(file, "/"))
	}), err
}

// previousLabel is the name of the boot entry for a system that had none.
const previousLabel = "Previous system (EFI/BOOT)"

// atEnd puts those of n that the order lacks after all others.
func atEnd(n ...efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number {
		return append(order, without(order...)(slices.Clone(n))...)
	}
}

// Keep implements [Loader].
func (l *grub) Keep(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "make the default:", s, func(w *grubSession) error {
		if err := w.bootable(); err != nil {
			return err
		}
		if w.next == s.Other() {
			if err := efivar.ClearBootNext(w.Vars); err != nil {
				return err
			}
		}
		n, err := w.ensure(s)
		if err != nil {
			return err
		}
		if w.Fallback != Disabled {
			if err := w.renew(s); err != nil {
				return err
			}
		}
		return w.order(w.place(n)) // decides
	})
}

// place puts the slot, with the boot entries n, before the other slot of this install, and
// leaves the places of other systems. An install that has no other slot in the order yet is
// the first of all, unless it is [Host.Beside] another.
func (w *grubSession) place(n []efivar.Number) func([]efivar.Number) []efivar.Number {
	others := w.numbers.Of(w.slot.Other())
	isOther := func(o efivar.Number) bool { return slices.Contains(others, o) }
	return func(order []efivar.Number) []efivar.Number {
		i := slices.IndexFunc(order, isOther)
		if i < 0 && w.Beside {
			return append(order, without(order...)(slices.Clone(n))...)
		}
		if i < 0 {
			return first(n...)(order)
		}
		if len(without(order[:i]...)(slices.Clone(n))) == 0 {
			return order
		}
		order = without(n...)(order)
		return slices.Insert(order, slices.IndexFunc(order, isOther), n...)
	}
}
