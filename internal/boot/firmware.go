package boot

import (
	"errors"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// entry finds the boot entry of slot s in the firmware: by its label, as
// upstream does. Of several, one on our partition is it; another one is of an
// install that is gone, or on another disk.
func (w *session) entry(s slot.Slot) (efivar.Entry, bool, error) {
	entries, err := efivar.Entries(w.Vars)
	if err != nil {
		return efivar.Entry{}, false, errkind.WithName(err, errkind.NameListAndParseBootEntries)
	}
	entries = slices.DeleteFunc(entries, func(e efivar.Entry) bool { return e.Description != w.label.Of(s) })
	for _, e := range entries {
		if disk, _, ok := e.Location(); ok && disk.Partition == w.Partition.Partition {
			return e, true, nil
		}
	}
	if len(entries) == 0 {
		return efivar.Entry{}, false, nil
	}
	return entries[0], true, nil
}

// ensure makes sure that slot s has a boot entry, and returns its number. It replaces an
// entry with the label of the slot and another target.
func (w *session) ensure(s slot.Slot) (efivar.Number, error) {
	e, found, err := w.entry(s)
	if err != nil {
		return 0, err
	}
	want := "/" + w.loaderOf(s)
	if disk, file, ok := e.Location(); ok && found && e.Attributes&efivar.Active != 0 &&
		disk.Partition == w.Partition.Partition && strings.EqualFold(file, want) {
		return e.Number, nil
	}
	if !found {
		if e.Number, err = efivar.FreeNumber(w.Vars); err != nil {
			return 0, errkind.WithName(err, errkind.NameCreateBootEntry)
		}
	}
	e.LoadOption = efivar.NewLoadOption(w.label.Of(s), w.Partition, want)
	return e.Number, errkind.WithName(efivar.SetEntry(w.Vars, e), errkind.NameCreateBootEntry)
}

// order changes the BootOrder of the firmware.
func (w *session) order(change func([]efivar.Number) []efivar.Number) error {
	old, err := efivar.BootOrder(w.Vars)
	if err != nil {
		return errkind.WithName(err, errkind.NameListAndParseBootEntries)
	}
	order := change(slices.Clone(old))
	if slices.Equal(old, order) {
		return nil
	}
	return errkind.WithName(efivar.SetBootOrder(w.Vars, order), errkind.NameUpdateBootOrder)
}

// first puts n before all others.
func first(n efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number {
		return append([]efivar.Number{n}, without(n)(order)...)
	}
}

// last puts n after all others.
func last(n efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number { return append(without(n)(order), n) }
}

func without(n efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number {
		return slices.DeleteFunc(order, func(o efivar.Number) bool { return o == n })
	}
}

// fallback copies the boot loader of slot s to EFI/BOOT. Other files there stay.
func (w *session) fallback(s slot.Slot) error {
	dir := efiDir + "/" + w.label.Of(s)
	names, err := w.esp.files(dir)
	if err == nil && len(names) > 0 {
		err = w.esp.mkdir(removable)
	}
	// What firmware starts is last: it may start the others.
	if i := slices.Index(names, w.Arch.bootFile()); i >= 0 {
		names = append(slices.Delete(names, i, i+1), w.Arch.bootFile())
	}
	for _, name := range names {
		if err != nil {
			break
		}
		var f file
		f, err = w.esp.file(dir + "/" + name)
		switch {
		case errors.Is(err, errNoFile) || hasSuffix(name, newSuffix):
			err = nil // a folder, or what a power cut left
		case err == nil:
			err = w.esp.put(removable, f)
		}
	}
	if err != nil {
		return errkind.WithName(prefix("set up the UEFI fallback", err), errkind.NameSetUpUefiFallback)
	}
	return nil
}
