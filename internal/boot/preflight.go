package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Preflight returns an error if Forget, Stage, Try and Keep of a slot, one after the other,
// would fail on a host for a reason that can be known before: the slot runs or is the
// default, the UKI is for another architecture, or the ESP or the memory of the firmware is
// too small. Preflight changes nothing and does not use h.ESP: files are the present files
// of the ESP, and space is its free space. Firmware that does not report its free memory
// counts as large enough; see [VariableNeed].
//
// Warnings are reasons why the next update after this one will fail.
func Preflight(ctx context.Context, h Host, files fs.FS, space Space, s slot.Slot, p *Payload) (warnings []string, err error) {
	warnings, err = preflight(ctx, h, files, space, s, p)
	if err != nil {
		return nil, fmt.Errorf("boot files of %s: %w", label(h.Index, s), err)
	}
	return warnings, nil
}

func preflight(ctx context.Context, h Host, files fs.FS, space Space, s slot.Slot, p *Payload) ([]string, error) {
	w, err := sessionOn(ctx, h, files, s)
	if err != nil {
		return nil, err
	}
	if err := fits(p.info.Arch, w.Arch); err != nil {
		return nil, err
	}
	if _, other := w.newest(s.Other()); w.booted() == s || w.deflt() == s && other {
		return nil, w.unused()
	}
	forgotten, err := w.sizeOf(s, space.Block)
	if err != nil {
		return nil, err
	}
	space.Free += forgotten
	if err := w.room(p, space); err != nil {
		return nil, errkind.WithName(err, errkind.NameDeployESPImages)
	}
	free, known, err := w.Vars.Room()
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameSetEfiVariable)
	}
	if need := w.variableNeed(); known && need > free {
		err := errkind.Errorf(errkind.NoSpace, "the firmware's memory is full: boot entries need %d bytes, and %d are free", need, free)
		return nil, errkind.WithName(errkind.WithHint(err, "Delete boot entries that nobody needs (efibootmgr), or dumps of kernel crashes (dump-* in efivarfs)."), errkind.NameSetEfiVariable)
	}
	if need := p.need(space.Block, Disabled); space.Free-p.need(space.Block, w.Fallback) < need && !w.esp.has(w.loaderOf(s.Other())) {
		return []string{fmt.Sprintf("the ESP has room for one set of boot files of %d MiB, not for two: an update into the other slot will not fit", (need+1<<20-1)>>20)}, nil
	}
	return nil, nil
}

func sessionOn(ctx context.Context, h Host, files fs.FS, s slot.Slot) (*session, error) {
	h, err := h.complete(SystemdBoot)
	if err != nil {
		return nil, err
	}
	w, err := newSession(newBase(h, esp{ctx: ctx, read: files}))
	if err != nil {
		return nil, err
	}
	w.slot = s
	return w, nil
}

// sizeOf returns how many bytes of the ESP the files of slot s and the staged files take, in
// blocks of block bytes. Forget frees them.
func (w *session) sizeOf(s slot.Slot, block int64) (sum int64, err error) {
	names := []string{w.folder(s)}
	for _, n := range w.ukis.Of(s) {
		names = append(names, inLinux(n.String()), inLinux(n.String()+extraDir))
	}
	for _, n := range []string{stagedName, stagedName + newSuffix, stagedName + extraDir} {
		names = append(names, inLinux(n))
	}
	block = max(block, 512)
	for _, name := range names {
		err := fs.WalkDir(w.esp.read, name, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sum += (info.Size() + block - 1) / block * block
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("look at %s on the ESP: %w", name, err)
		}
	}
	return sum, nil
}

// VariableNeed returns how many bytes of the firmware's memory Try and Keep of slot s need,
// as [efivar.Store] counts them.
func VariableNeed(ctx context.Context, h Host, files fs.FS, s slot.Slot) (int64, error) {
	w, err := sessionOn(ctx, h, files, s)
	if err != nil {
		return 0, err
	}
	return w.variableNeed(), nil
}

// variableNeed counts every variable that Try and Keep set, also those that exist, because
// firmware writes the new content of a variable before it frees the old content.
func (w *session) variableNeed() int64 {
	var sum int64
	set := func(vendor efivar.Vendor, name string, size int) {
		sum += efivar.Name{Name: name, Vendor: vendor}.Cost(size)
	}
	for _, s := range []slot.Slot{w.slot, w.slot.Other()} {
		for _, m := range w.Members {
			option, err := efivar.NewLoadOption(w.label.Of(s), m, "/"+w.loaderOf(s)).Encode()
			if err == nil {
				set(efivar.Global, "Boot0000", len(option))
			}
		}
	}
	entries, _ := efivar.BootOrder(w.Vars)
	set(efivar.Global, "BootOrder", 2*(len(entries)+2*len(w.Members)))
	set(efivar.Global, "BootNext", 2)
	uki := 2 * (len(ukiName{max(w.last+1, firstUKI), w.Index, w.slot}.String()) + 1)
	set(efivar.Loader, efivar.EntryOneShot, uki)
	set(efivar.Loader, efivar.EntryDefault, uki)
	return sum
}
