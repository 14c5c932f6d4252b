package boot

import (
	"context"
	"path"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Stage implements [Loader]. The configuration is last, and has a name that GRUB does not
// read: Try renames it.
func (l *grub) Stage(ctx context.Context, s slot.Slot, p *Payload) error {
	return l.do(ctx, "stage boot files for", s, func(w *grubSession) error {
		if err := w.unused(); err != nil {
			return err
		}
		if err := p.fits(Grub, w.Arch); err != nil {
			return err
		}
		if p.config == "" {
			return errkind.Errorf(errkind.Internal, "the boot files have no configuration of GRUB")
		}
		free, block, err := l.space(w.ESP)
		if err != nil {
			return err
		}
		if err := w.room(p, Space{free, block}); err != nil {
			return err
		}
		return errkind.WithName(w.stage(p), errkind.NameDeployESPImages)
	})
}

func (w *grubSession) stage(p *Payload) error {
	if err := w.detach(); err != nil {
		return err
	}
	dir := w.folder(w.slot)
	for _, name := range []string{grubStaged, grubStaged + newSuffix} {
		if err := w.esp.remove(path.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := w.esp.mkdir(dir); err != nil {
		return err
	}
	for _, f := range p.loader {
		if err := w.esp.put(dir, f); err != nil {
			return err
		}
	}
	return w.esp.put(dir, textFile(grubStaged, p.config))
}

// detach makes sure that nothing boots the slot, before its files change: neither a variable
// of the firmware nor EFI/BOOT.
func (w *grubSession) detach() error {
	if w.next == w.slot {
		if err := efivar.ClearBootNext(w.Vars); err != nil {
			return err
		}
	}
	if err := w.order(without(w.numbers.Of(w.slot)...)); err != nil {
		return err
	}
	if w.Fallback == Disabled {
		return nil
	}
	if other := w.slot.Other(); w.canBoot(other) {
		return w.renew(other)
	}
	return w.removeFallback()
}

// Forget implements [Loader]. An update keeps the boot entry, which the next one uses again:
// firmware may put a new entry anywhere in its order.
func (l *grub) Forget(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "remove boot files of", s, func(w *grubSession) error {
		if err := w.unused(); err != nil {
			return err
		}
		if err := w.detach(); err != nil {
			return err
		}
		for _, n := range w.numbers.Of(s) {
			if w.canBoot(s.Other()) {
				break
			}
			if err := efivar.DeleteEntry(w.Vars, n); err != nil {
				return err
			}
		}
		// First the program that the firmware starts: GRUB without a configuration would
		// wait for a person.
		if err := w.esp.remove(w.loaderOf(s)); err != nil {
			return err
		}
		return w.esp.remove(w.folder(s))
	})
}
