package boot

import (
	"errors"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// labelled returns the boot entries with a label, which is how upstream finds those of a slot.
func (w *base) labelled(label string) ([]efivar.Entry, error) {
	entries, err := efivar.Entries(w.Vars)
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameListAndParseBootEntries)
	}
	return slices.DeleteFunc(entries, func(e efivar.Entry) bool { return e.Description != label }), nil
}

// on reports whether the entry boots from the partition.
func on(e efivar.Entry, partition gpt.GUID) bool {
	disk, _, ok := e.Location()
	return ok && disk.Partition == partition
}

// isOurs reports whether the entry boots from a member of the ESP.
func (w *base) isOurs(e efivar.Entry) bool {
	return slices.ContainsFunc(w.Members, func(m efivar.HardDrive) bool { return on(e, m.Partition) })
}

// entries returns the boot entries of slot s on the members of the ESP. Without one it
// returns the first entry with the label: of an install that is gone, or on another disk.
func (w *base) entries(s slot.Slot) ([]efivar.Entry, error) {
	all, err := w.labelled(w.label.Of(s))
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, w.isOurs) {
		return slices.DeleteFunc(all, func(e efivar.Entry) bool { return !w.isOurs(e) }), nil
	}
	return all[:min(1, len(all))], nil
}

// ensure makes sure that slot s has a boot entry on each member of the ESP, and returns their
// numbers in the order of the members. For a member without one it takes over an entry with
// the label of the slot on another partition.
func (w *base) ensure(s slot.Slot) ([]efivar.Number, error) {
	return w.ensureFile(w.label.Of(s), "/"+w.loaderOf(s))
}

// ensureFile is ensure for boot entries with a label, which start a file on the ESP.
func (w *base) ensureFile(label, file string) ([]efivar.Number, error) {
	all, err := w.labelled(label)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(all), w.isOurs)
	var out []efivar.Number
	for _, m := range w.Members {
		e := efivar.Entry{}
		if i := slices.IndexFunc(all, func(e efivar.Entry) bool { return on(e, m.Partition) }); i >= 0 {
			e = all[i]
		} else if len(others) > 0 {
			e, others = others[0], others[1:]
		} else if e.Number, err = efivar.FreeNumber(w.Vars); err != nil {
			return nil, errkind.WithName(err, errkind.NameCreateBootEntry)
		}
		if err := w.direct(e, label, file, m); err != nil {
			return nil, errkind.WithName(err, errkind.NameCreateBootEntry)
		}
		out = append(out, e.Number)
	}
	return out, nil
}

// direct makes e the boot entry with a label for a file on a member of the ESP, unless it is
// that already.
func (w *base) direct(e efivar.Entry, label, want string, m efivar.HardDrive) error {
	if _, file, ok := e.Location(); ok && e.Description == label && e.Attributes&efivar.Active != 0 && on(e, m.Partition) && strings.EqualFold(file, want) {
		return nil
	}
	e.LoadOption = efivar.NewLoadOption(label, m, want)
	return efivar.SetEntry(w.Vars, e)
}

// order changes the BootOrder of the firmware.
func (w *base) order(change func([]efivar.Number) []efivar.Number) error {
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

// first puts entries before all others.
func first(n ...efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number {
		return append(slices.Clone(n), without(n...)(order)...)
	}
}

// last puts entries after all others.
func last(n ...efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number { return append(without(n...)(order), n...) }
}

func without(n ...efivar.Number) func([]efivar.Number) []efivar.Number {
	return func(order []efivar.Number) []efivar.Number {
		return slices.DeleteFunc(order, func(o efivar.Number) bool { return slices.Contains(n, o) })
	}
}

// fallback copies the boot loader of slot s to EFI/BOOT. Other files there stay.
func (w *base) fallback(s slot.Slot) error {
	dir := w.folder(s)
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
