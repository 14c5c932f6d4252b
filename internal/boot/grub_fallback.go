package boot

import (
	"bytes"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// maxGrubConfig bounds the configurations of GRUB that this package writes, and those that it
// compares, in bytes.
const maxGrubConfig = 64 << 10

var fallbackConfig = path.Join(removable, grubConfig)

// fallbackFile returns the path of the program on the ESP that firmware without entries starts.
func (w *base) fallbackFile() string { return path.Join(removable, w.Arch.bootFile()) }

// fallbackForTrial renews EFI/BOOT before a trial.
func (w *grubSession) fallbackForTrial() error {
	switch other := w.slot.Other(); {
	case w.Fallback == Disabled:
		return nil
	case !w.canBoot(other) && !w.ownsFallback():
		return nil // EFI/BOOT may be all that boots the running system
	case w.Fallback == Conservative && w.canBoot(other):
		return w.renew(other)
	}
	return w.renew(w.slot)
}

// renew makes EFI/BOOT a copy of the folder of slot s, unless EFI/BOOT is another system's.
func (w *grubSession) renew(s slot.Slot) error {
	if !w.ownsFallback() && w.sharesESP() {
		return nil
	}
	return w.fallback(s)
}

// ownsFallback reports whether EFI/BOOT starts nothing, or boots a slot of this install.
func (w *grubSession) ownsFallback() bool {
	if !w.esp.has(w.fallbackFile()) {
		return true
	}
	return w.fallsBackTo(slot.A) || w.fallsBackTo(slot.B)
}

// fallsBackTo reports whether EFI/BOOT boots slot s.
func (w *grubSession) fallsBackTo(s slot.Slot) bool {
	have, err := w.esp.readFile(fallbackConfig, maxGrubConfig)
	want, err2 := w.esp.readFile(w.config(s), maxGrubConfig)
	return err == nil && err2 == nil && bytes.Equal(have, want)
}

// sharesESP reports whether the ESP has folders of another system.
func (w *grubSession) sharesESP() bool {
	names, err := w.esp.files(efiDir)
	if err != nil {
		return true
	}
	for _, name := range names {
		switch upper := strings.ToUpper(name); upper {
		case "BOOT", "LINUX", "SYSTEMD", w.label.A, w.label.B:
		default:
			return true
		}
	}
	return false
}

// removeFallback removes the boot files of the slot from EFI/BOOT, if it boots the slot. The
// program that the firmware starts is first: GRUB without a configuration waits for a person.
func (w *grubSession) removeFallback() error {
	if !w.fallsBackTo(w.slot) {
		return nil
	}
	names, err := w.esp.files(w.folder(w.slot))
	if err != nil {
		return err
	}
	for _, name := range append([]string{w.Arch.bootFile()}, names...) {
		if strings.EqualFold(name, grubConfig) {
			continue
		}
		if err := w.esp.remove(path.Join(removable, name)); err != nil {
			return errkind.WithName(err, errkind.NameSetUpUefiFallback)
		}
	}
	// Last: it says whose the others are, for a call after a power cut.
	return errkind.WithName(w.esp.remove(fallbackConfig), errkind.NameSetUpUefiFallback)
}
