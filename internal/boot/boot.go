// Package boot decides which of a host's two slots boots: one slot once for a trial, and
// one slot by default.
//
// After a power cut at any point of this package the host must boot the old system or the
// new one. So the package never changes a file that the running or the default system boots
// from, and a new file is whole and on disk before anything refers to it. The last change of
// each method decides what boots. It sets one firmware variable, which has the old or the
// new value.
//
// With systemd-boot these are LoaderEntryOneShot for the trial and LoaderEntryDefault after
// it. The firmware's own BootNext and BootOrder only choose the copy of systemd-boot that
// runs; every copy boots either slot. With GRUB they are BootNext and BootOrder, because the
// copy of GRUB in the folder of a slot boots that slot only.
package boot

import (
	"context"
	"io/fs"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Loader is a boot loader on a host. After a failure or a power cut a caller may call a
// method again, with the same result. Only one method may run at a time.
type Loader interface {
	// Entries returns what has booted, and what boots next and by default.
	Entries(ctx context.Context) (State, error)
	// Stage writes the boot files of a slot to the ESP. Nothing boots them before Try. The
	// slot must be neither running nor the default. Stage fails before the first write
	// if there is not enough room.
	Stage(ctx context.Context, s slot.Slot, p *Payload) error
	// Try makes the next boot, and only that one, a boot of the slot: from the staged files
	// if there are any, else from the previous files of the slot.
	Try(ctx context.Context, s slot.Slot) error
	// Keep makes the slot the default, and ends a trial of the other slot.
	Keep(ctx context.Context, s slot.Slot) error
	// Forget removes the boot files of the slot, staged or not, and its boot entry. The
	// slot must not be running, and not be the default if the other slot can boot.
	Forget(ctx context.Context, s slot.Slot) error
}

// State says which slot boots when. The zero Slot means none, or a system of another
// installation.
type State struct {
	Names   slot.Pair[string] // the UKI of each slot, or its configuration of GRUB; "" if it has none
	Staged  slot.Slot         // has staged files
	Booted  slot.Slot         // runs, according to the boot loader
	Next    slot.Slot         // boots once, next
	Default slot.Slot
}

// Kind is a boot loader, by its name in COSI metadata.
type Kind string

// The kinds.
const (
	SystemdBoot Kind = "systemd-boot"
	Grub        Kind = "grub"
)

// KindOf returns the boot loader of an install, by the files of its ESP. An install without
// boot files of its own has the one of EFI/BOOT.
func KindOf(files fs.FS, index int) Kind {
	e := esp{read: files}
	ukis, _ := e.files(linuxDir)
	for _, s := range []slot.Slot{slot.A, slot.B} {
		dir := path.Join(efiDir, label(index, s))
		switch {
		case e.has(path.Join(dir, grubConfig)) || e.has(path.Join(dir, grubStaged)):
			return Grub
		case e.has(dir), slices.ContainsFunc(ukis, func(name string) bool {
			n, ok := parseUKIName(name)
			return ok && n.index == index && n.slot == s
		}):
			return SystemdBoot
		}
	}
	if e.has(fallbackConfig) {
		return Grub
	}
	return SystemdBoot
}

// Fallback says which slot's boot loader is in EFI/BOOT, which firmware without a boot
// entry starts. The values are those of os.uefiFallback in a Host Configuration.
type Fallback string

// The fallbacks.
const (
	Conservative Fallback = "conservative" // the loader of the system that was kept last
	Optimistic   Fallback = "optimistic"   // the loader of the system that was written last
	Disabled     Fallback = "disabled"     // this package does not change EFI/BOOT
)

// Arch is an architecture as Go names it.
type Arch string

// The architectures.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// bootFile returns the file name of the boot loader that firmware of the architecture
// starts (UEFI 2.10, section 3.5.1.1), in lower case as upstream writes it.
func (a Arch) bootFile() string {
	switch a {
	case AMD64:
		return "bootx64.efi"
	case ARM64:
		return "bootaa64.efi"
	}
	return ""
}

// Host is the host of a Loader.
type Host struct {
	ESP string // the folder on which the ESP is mounted; only the Loader changes it
	// Members are the ESP, as boot entries name it: one partition, or all members of a
	// mirror, of which the first boots next and so must be in sync. A slot has a boot entry,
	// of the same label, for each of them.
	Members  []efivar.HardDrive
	Vars     efivar.Store
	Arch     Arch
	Index    int      // of the install on this ESP, see [FreeIndex]
	Fallback Fallback // "" is Conservative
	// Beside is set for an installation beside other systems of the host: they keep their
	// places in the order of the firmware, before the new one, the default entry of
	// systemd-boot, and EFI/BOOT.
	Beside bool
	// Touch, if not nil, is called for each change of the host and must call change.
	Touch func(name string, change func() error) error
}

// New returns the Loader of a kind on a host.
func New(kind Kind, h Host) (Loader, error) {
	h, err := h.complete(kind)
	if err != nil {
		return nil, err
	}
	if kind == Grub {
		return &grub{host: h, space: statfs}, nil
	}
	return &sdboot{host: h, space: statfs}, nil
}

// complete returns h with its defaults, or an error if it cannot be a host with that
// loader.
func (h Host) complete(kind Kind) (Host, error) {
	switch {
	case kind != SystemdBoot && kind != Grub:
		return h, errkind.Errorf(errkind.Invalid, "set up boot loader: unknown boot loader %q", kind)
	case h.Arch.bootFile() == "":
		return h, errkind.Errorf(errkind.Unsupported, "set up %s: no boot files are known for architecture %q", kind, h.Arch)
	case h.Vars == nil:
		return h, errkind.Errorf(errkind.Internal, "set up %s: the caller gave no access to the variables of the firmware", kind)
	case len(h.Members) == 0:
		return h, errkind.Errorf(errkind.Internal, "set up %s: the caller named no EFI system partition", kind)
	case h.Index < 0 || h.Index >= maxIndex:
		return h, errkind.Errorf(errkind.Invalid, "set up %s: install index %d is not one of 0 to %d", kind, h.Index, maxIndex-1)
	}
	switch h.Fallback {
	case "":
		h.Fallback = Conservative
	case Conservative, Optimistic, Disabled:
	default:
		return h, errkind.Errorf(errkind.Invalid, "set up %s: %q is not a UEFI fallback", kind, h.Fallback)
	}
	if kind == SystemdBoot && h.Beside {
		h.Fallback = Disabled // its copy does not say whose it is
	}
	if h.Touch == nil {
		h.Touch = func(_ string, change func() error) error { return change() }
	}
	return h, nil
}
