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
	w, err := subjectOn(ctx, p.kind, h, files, s)
	if err != nil {
		return nil, err
	}
	b := w.host()
	if err := fits(p.info.Arch, b.Arch); err != nil {
		return nil, err
	}
	if err := w.forgettable(); err != nil {
		return nil, err
	}
	forgotten, err := b.sizeOf(w.owned(), space.Block)
	if err != nil {
		return nil, err
	}
	space.Free += forgotten
	if err := b.room(p, space); err != nil {
		return nil, errkind.WithName(err, errkind.NameDeployESPImages)
	}
	free, known, err := b.Vars.Room()
	if err != nil {
		return nil, errkind.WithName(err, errkind.NameSetEfiVariable)
	}
	if need := w.variableNeed(); known && need > free {
		err := errkind.Errorf(errkind.NoSpace, "the firmware's memory is full: boot entries need %d bytes, and %d are free", need, free)
		return nil, errkind.WithName(errkind.WithHint(err, "Delete boot entries that nobody needs (efibootmgr), or dumps of kernel crashes (dump-* in efivarfs)."), errkind.NameSetEfiVariable)
	}
	if need := p.need(space.Block, Disabled); space.Free-p.need(space.Block, b.Fallback) < need && !b.esp.has(b.loaderOf(s.Other())) {
		return []string{fmt.Sprintf("the ESP has room for one set of boot files of %d MiB, not for two: an update into the other slot will not fit", (need+1<<20-1)>>20)}, nil
	}
	return nil, nil
}

// subject is a slot of an install, as the state of the host is before a change.
type subject interface {
	host() *base
	forgettable() error  // returns the error that Forget of the slot would have
	owned() []string     // returns the files and folders that Forget would remove
	variableNeed() int64 // see [VariableNeed]
}

// subjectOn reads the state of the host that h and files describe.
func subjectOn(ctx context.Context, kind Kind, h Host, files fs.FS, s slot.Slot) (subject, error) {
	h, err := h.complete(kind)
	if err != nil {
		return nil, err
	}
	b := newBase(h, esp{ctx: ctx, read: files})
	b.slot = s
	if kind == Grub {
		return newGrubSession(b)
	}
	return newSession(b)
}

func (w *base) host() *base { return w }

func (w *session) forgettable() error {
	if _, other := w.newest(w.slot.Other()); w.booted() == w.slot || w.deflt() == w.slot && other {
		return w.unused()
	}
	return nil
}

func (w *session) owned() []string {
	names := []string{w.folder(w.slot)}
	for _, n := range w.ukis.Of(w.slot) {
		names = append(names, inLinux(n.String()), inLinux(n.String()+extraDir))
	}
	for _, n := range []string{stagedName, stagedName + newSuffix, stagedName + extraDir} {
		names = append(names, inLinux(n))
	}
	return names
}

func (w *grubSession) forgettable() error { return w.unused() }
func (w *grubSession) owned() []string    { return []string{w.folder(w.slot)} }

// sizeOf returns how many bytes of the ESP files and folders take, in blocks of block bytes.
func (w *base) sizeOf(names []string, block int64) (sum int64, err error) {
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

// VariableNeed returns how many bytes of the firmware's memory Try and Keep of slot s need for
// the boot loader of p, as [efivar.Store] counts them.
func VariableNeed(ctx context.Context, h Host, files fs.FS, s slot.Slot, p *Payload) (int64, error) {
	w, err := subjectOn(ctx, p.kind, h, files, s)
	if err != nil {
		return 0, err
	}
	return w.variableNeed(), nil
}

// entryNeed counts the variables of the firmware that Try and Keep set, also those that exist,
// because firmware writes the new content of a variable before it frees the old content.
func (w *base) entryNeed() int64 {
	var sum int64
	set := func(name string, size int) { sum += efivar.Name{Name: name, Vendor: efivar.Global}.Cost(size) }
	for _, s := range []slot.Slot{w.slot, w.slot.Other()} {
		for _, m := range w.Members {
			option, err := efivar.NewLoadOption(w.label.Of(s), m, "/"+w.loaderOf(s)).Encode()
			if err == nil {
				set("Boot0000", len(option))
			}
		}
	}
	entries, _ := efivar.BootOrder(w.Vars)
	set("BootOrder", 2*(len(entries)+2*len(w.Members)))
	set("BootNext", 2)
	return sum
}

func (w *grubSession) variableNeed() int64 {
	sum := w.entryNeed()
	if w.ownsFallback() {
		return sum
	}
	for _, m := range w.Members {
		if option, err := efivar.NewLoadOption(previousLabel, m, "/"+w.fallbackFile()).Encode(); err == nil {
			sum += efivar.Name{Name: "Boot0000", Vendor: efivar.Global}.Cost(len(option))
		}
	}
	return sum
}

func (w *session) variableNeed() int64 {
	uki := 2 * (len(ukiName{max(w.last+1, firstUKI), w.Index, w.slot}.String()) + 1)
	sum := w.entryNeed()
	for _, name := range []string{efivar.EntryOneShot, efivar.EntryDefault} {
		sum += efivar.Name{Name: name, Vendor: efivar.Loader}.Cost(uki)
	}
	return sum
}
