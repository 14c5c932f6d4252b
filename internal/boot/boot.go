// Package boot makes one of a host's two slots boot: once, to try it, and by
// default, once it is proven.
//
// A host must come up after a power cut anywhere in here, in the old system or
// the new one. So nothing that the running or the default system boots from is
// ever changed, a new file is whole and on disk before anything names it, and
// what decides is the last of each method and one variable of the firmware,
// which is old or new. systemd-boot reads it: LoaderEntryOneShot for the trial,
// LoaderEntryDefault after it. The firmware's own BootNext and BootOrder only
// choose whose copy of systemd-boot runs; any copy boots either slot.
package boot

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/slot"
)

// Loader is a boot loader on a host. Methods do the same when run again after a
// failure or a power cut, and must not run at the same time as another.
type Loader interface {
	// Entries says what boots now, next and by default.
	Entries(ctx context.Context) (State, error)
	// Stage puts a slot's boot files in place, so that nothing boots them yet.
	// The slot must be neither running nor the default. That there is no room is
	// found before anything is written.
	Stage(ctx context.Context, s slot.Slot, p *Payload) error
	// Try has the slot boot once, next, and the default again after that. It is
	// what was staged, if something was, and else what the slot had before.
	Try(ctx context.Context, s slot.Slot) error
	// Keep makes the slot the default, and ends the trial of another.
	Keep(ctx context.Context, s slot.Slot) error
	// Forget removes what the slot boots from, staged or not, and its entry. The
	// slot must not be running, nor be the default while there is another.
	Forget(ctx context.Context, s slot.Slot) error
}

// State is what boots. A slot that is no slot stands for none, or for a system
// that is not of this install.
type State struct {
	Names   slot.Pair[string] // what boots each slot; "" when nothing does
	Staged  slot.Slot         // has files that Try will use
	Booted  slot.Slot         // runs, as far as the boot loader knows
	Next    slot.Slot         // is tried once, next
	Default slot.Slot
}

// Kind is a boot loader, by its name in COSI metadata.
type Kind string

// The kinds.
const (
	SystemdBoot Kind = "systemd-boot"
	Grub        Kind = "grub"
)

// Fallback says which slot's boot files are in EFI/BOOT, where firmware looks
// that has lost its entries. The values are those of os.uefiFallback.
type Fallback string

// The fallbacks.
const (
	Conservative Fallback = "conservative" // of the system that was proven last
	Optimistic   Fallback = "optimistic"   // of the system that was written last
	Disabled     Fallback = "disabled"     // never touched
)

// Arch is an architecture as Go names it.
type Arch string

// The architectures.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// bootFile is the name under which firmware of that architecture looks for a
// boot loader (UEFI 2.10, 3.5.1.1), in lower case as upstream writes it.
func (a Arch) bootFile() string {
	switch a {
	case AMD64:
		return "bootx64.efi"
	case ARM64:
		return "bootaa64.efi"
	}
	return ""
}

// Host is where a Loader works.
type Host struct {
	ESP       string           // folder where the ESP is mounted, and which nobody else changes
	Partition efivar.HardDrive // the ESP, as firmware finds it
	Vars      efivar.Store
	Arch      Arch
	Index     int      // of the install on this ESP, see [FreeIndex]
	Fallback  Fallback // "" is Conservative
	// Touch, if set, is called for each change of the host, and has to make it.
	Touch func(name string, change func() error) error
}

// New returns the boot loader of that kind on a host. GRUB has a place here and
// is an error of kind Unsupported.
func New(kind Kind, h Host) (Loader, error) {
	h, err := h.complete(kind)
	if err != nil {
		return nil, err
	}
	return &sdboot{host: h, space: statfs}, nil
}

// complete returns h with its defaults, or an error if it cannot be a host with that
// loader.
func (h Host) complete(kind Kind) (Host, error) {
	switch {
	case kind == Grub:
		return h, errkind.WithHint(errkind.Errorf(errkind.Unsupported, "set up %s: this version cannot service it", kind),
			"use an image with systemd-boot and a unified kernel image")
	case kind != SystemdBoot:
		return h, errkind.Errorf(errkind.Invalid, "set up boot loader: %q is none that is known", kind)
	case h.Arch.bootFile() == "":
		return h, errkind.Errorf(errkind.Unsupported, "set up %s: no boot files are known for architecture %q", kind, h.Arch)
	case h.Vars == nil:
		return h, errkind.Errorf(errkind.Internal, "set up %s: it has no variables of the firmware", kind)
	case h.Index < 0 || h.Index >= maxIndex:
		return h, errkind.Errorf(errkind.Invalid, "set up %s: install index %d is not one of 0 to %d", kind, h.Index, maxIndex-1)
	}
	switch h.Fallback {
	case "":
		h.Fallback = Conservative
	case Conservative, Optimistic, Disabled:
	default:
		return h, errkind.Errorf(errkind.Invalid, "set up %s: %q is no UEFI fallback", kind, h.Fallback)
	}
	if h.Touch == nil {
		h.Touch = func(_ string, change func() error) error { return change() }
	}
	return h, nil
}
