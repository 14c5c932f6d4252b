package boot

import (
	"context"
	"slices"

	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Keep implements [Loader].
func (l *sdboot) Keep(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "make the default:", s, func(w *session) error {
		uki, err := w.bootable()
		if err != nil {
			return err
		}
		if err := w.endTrial(s.Other()); err != nil {
			return err
		}
		n, err := w.ensure(s)
		if err != nil {
			return err
		}
		if w.Beside { // a default is one for all installs that boot by systemd-boot
			return w.order(atEnd(n...))
		}
		if err := w.order(first(n...)); err != nil {
			return err
		}
		if w.Fallback != Disabled {
			if err := w.fallback(s); err != nil {
				return err
			}
		}
		return efivar.SetLoaderText(w.Vars, efivar.EntryDefault, uki.String()) // decides
	})
}

// Forget implements [Loader].
func (l *sdboot) Forget(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "remove boot files of", s, func(w *session) error {
		if err := w.forgettable(); err != nil {
			return err
		}
		if err := w.endTrial(s); err != nil {
			return err
		}
		if w.deflt() == s {
			if err := efivar.SetLoaderText(w.Vars, efivar.EntryDefault, ""); err != nil {
				return err
			}
		}
		if w.Fallback != Disabled && w.esp.has(w.loaderOf(s.Other())) {
			if err := w.fallback(s.Other()); err != nil {
				return err
			}
		}
		return w.forget()
	})
}

// forget removes the boot entry and the files of a slot that is not booted.
func (w *session) forget() error {
	entries, err := w.entries(w.slot)
	if err != nil {
		return err
	}
	for _, e := range slices.DeleteFunc(entries, func(e efivar.Entry) bool { return !w.isOurs(e) }) {
		if err := w.order(without(e.Number)); err != nil {
			return err
		}
		if err := efivar.DeleteEntry(w.Vars, e.Number); err != nil {
			return err
		}
	}
	if w.stagedFor(w.slot) || !w.staged {
		if err := w.unstage(); err != nil {
			return err
		}
	}
	for _, n := range w.ukis.Of(w.slot) {
		if err := w.removeUKI(n); err != nil {
			return err
		}
	}
	return w.esp.remove(w.folder(w.slot))
}

// endTrial makes slot s no longer the next to boot.
func (w *session) endTrial(s slot.Slot) error {
	if w.slotOf(w.texts.oneShot) == s {
		if err := efivar.SetLoaderText(w.Vars, efivar.EntryOneShot, ""); err != nil {
			return err
		}
	}
	next, ok, err := efivar.BootNext(w.Vars)
	if err != nil || !ok {
		return err
	}
	entries, err := w.entries(s)
	if err != nil || !slices.ContainsFunc(entries, func(e efivar.Entry) bool { return e.Number == next }) {
		return err
	}
	return efivar.ClearBootNext(w.Vars)
}
