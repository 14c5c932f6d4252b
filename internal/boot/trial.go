package boot

import (
	"context"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Try implements [Loader].
func (l *sdboot) Try(ctx context.Context, s slot.Slot) error {
	return l.do(ctx, "arrange a trial of", s, func(w *session) error {
		if err := w.hold(); err != nil {
			return err
		}
		if err := w.install(); err != nil {
			return errkind.WithName(err, errkind.NameUpdateUki)
		}
		uki, err := w.bootable()
		if err != nil {
			return err
		}
		if err := w.fallbackForTrial(); err != nil {
			return err
		}
		n, err := w.enter()
		if err != nil {
			return err
		}
		if err := efivar.SetBootNext(w.Vars, n[0]); err != nil {
			return err
		}
		return efivar.SetLoaderText(w.Vars, efivar.EntryOneShot, uki.String()) // decides
	})
}

// hold sets the default entry if it is missing, a pattern, or names a UKI that does not
// exist: systemd-boot would then boot the newest UKI, and so the new one without a trial.
func (w *session) hold() error {
	deflt, selected := w.texts.deflt, w.texts.selected
	if w.booted() == w.slot {
		selected = "" // it is on trial now
	}
	pattern := strings.ContainsAny(deflt, "*?[") || strings.HasPrefix(deflt, "@")
	there := !hasSuffix(deflt, ".efi") || deflt == selected || w.esp.has(inLinux(deflt)) || w.slotOf(deflt).Valid()
	if deflt != "" && !pattern && there {
		return nil
	}
	hold := selected
	if other, ok := w.newest(w.slot.Other()); hold == "" && ok {
		hold = other.String()
	}
	if hold == "" { // a first install
		return nil
	}
	return efivar.SetLoaderText(w.Vars, efivar.EntryDefault, hold)
}

// install renames the staged UKI to a name that systemd-boot boots, and removes the previous
// UKI of the slot.
func (w *session) install() error {
	if w.stagedFor(w.slot) {
		if err := w.unused(); err != nil {
			return err
		}
		if !w.planned.slot.Valid() {
			var err error
			if w.planned, err = w.plan(w.slot); err != nil {
				return err
			}
			if err := w.write(plannedName, w.planned.String()); err != nil {
				return err
			}
		}
		if err := w.publish(inLinux(w.planned.String())); err != nil {
			return err
		}
		w.addUKI(w.planned)
	}
	mine := w.ukis.Of(w.slot)
	if len(mine) == 0 {
		return errkind.WithName(errkind.Errorf(errkind.NotFound, "the slot has neither staged nor previous boot files"), errkind.NameFindStagedFile)
	}
	for _, old := range mine[1:] {
		if err := w.removeUKI(old); err != nil {
			return err
		}
	}
	if w.staged || !w.esp.has(inLinux(plannedName)) {
		return nil
	}
	return w.esp.remove(inLinux(plannedName)) // what a power cut left
}

// publish renames the staged files: extras before the UKI, because systemd-boot uses extras
// only beside a UKI.
func (w *session) publish(name string) error {
	if extra := inLinux(stagedName + extraDir); w.esp.has(extra) {
		if err := w.esp.remove(name + extraDir); err != nil {
			return err
		}
		if err := w.esp.rename(extra, name+extraDir); err != nil {
			return err
		}
	}
	if err := w.esp.rename(inLinux(stagedName), name); err != nil {
		return err
	}
	w.staged = false
	return nil
}

// removeUKI removes a UKI, and then its extras.
func (w *session) removeUKI(n ukiName) error {
	if err := w.esp.remove(inLinux(n.String())); err != nil {
		return err
	}
	return w.esp.remove(inLinux(n.String() + extraDir))
}

// bootable checks the files that the slot would boot from, and returns its UKI.
func (w *session) bootable() (ukiName, error) {
	n, ok := w.newest(w.slot)
	if !ok {
		return n, errkind.WithName(errkind.Errorf(errkind.NotFound, "the slot has no UKI on the ESP"), errkind.NameFindStagedFile)
	}
	f, err := w.esp.file(inLinux(n.String()))
	if err == nil {
		_, err = f.inspect(w.Arch)
	}
	if err != nil {
		return n, errkind.WithName(fmt.Errorf("check %s on the ESP: %w", n, err), errkind.NameUpdateUki)
	}
	if f, err = w.esp.file(w.loaderOf(w.slot)); err == nil {
		err = f.program(w.Arch)
	}
	if err != nil {
		return n, errkind.WithName(fmt.Errorf("check the boot loader of the slot on the ESP: %w", err), errkind.NameBootEntryCheck)
	}
	return n, nil
}

// enter makes sure that both slots have boot entries, the old slot before the new one in the
// order of the firmware, and returns the numbers of the new one.
func (w *session) enter() ([]efivar.Number, error) {
	other := w.slot.Other()
	if w.esp.has(w.loaderOf(other)) {
		n, err := w.ensure(other)
		if err != nil {
			return nil, err
		}
		err = w.order(func(order []efivar.Number) []efivar.Number {
			return append(order, without(order...)(n)...)
		})
		if err != nil {
			return nil, err
		}
	}
	n, err := w.ensure(w.slot)
	if err != nil || w.deflt() == w.slot {
		return n, err
	}
	return n, w.order(last(n...))
}

func (w *session) fallbackForTrial() error {
	switch other := w.slot.Other(); {
	case w.Fallback == Disabled:
		return nil
	case w.Fallback == Conservative && w.esp.has(w.loaderOf(other)):
		return w.fallback(other)
	}
	return w.fallback(w.slot)
}
