// Package loader opens the boot loader of a host for an operation on a slot: it says which
// slot runs, writes the boot files of a slot, and sets what boots.
package loader

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/servicing/slots/seal"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// espRoot is the folder on which Loader mounts the EFI system partition while it needs it.
const espRoot = "run/trident/esp"

// Loader opens the boot loader of one host.
type Loader struct {
	*change.Host
	Machine machine.Machine
	Disks   *disks.Disks
	// TPM is that of the host; nil means the one of this machine.
	TPM Chip
}

// Chip is the TPM of a host.
type Chip = seal.Chip

// Running returns the slot whose root device the kernel has mounted at /, or 0 if that is
// the device of neither slot.
func (l *Loader) Running(c *hostconfig.Config, paths record.Devices) (slot.Slot, error) {
	spec := &c.Spec().Storage
	inv, err := l.Machine.Inventory()
	if err != nil {
		return 0, err
	}
	slots := []slot.Slot{slot.A, slot.B}
	if !record.RootIsPair(spec) {
		slots = slots[:1]
	}
	for _, in := range slots {
		dev, err := storage.Device(spec, paths.Map(), in, record.RootID(spec))
		if err != nil {
			return 0, err
		}
		if n, ok := inv.Node(dev); ok && n.Use.IsRoot() {
			return in, nil
		}
	}
	return 0, nil
}

// RootDevice returns the device with this host's root file system, or "unknown".
func (l *Loader) RootDevice() string {
	inv, err := l.Machine.Inventory()
	if err != nil {
		return "unknown"
	}
	return cmp.Or(inv.Root(), "unknown")
}

// Stage writes the boot files of the slot to the ESP. Nothing boots them yet.
func (l *Loader) Stage(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	p, err := r.State.Prove()
	if err != nil {
		return err
	}
	config, err := l.grubConfig(r, c)
	if err != nil {
		return err
	}
	payload, done, err := l.payload(r, c, config)
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	if r.State.Purpose == record.Installs && !r.State.Indexed { // once: its own files take an index
		err := l.withESP(r, c, func(esp string) (err error) {
			r.State.Index, err = boot.FreeIndex(os.DirFS(esp))
			return err
		})
		if err != nil {
			return err
		}
		r.State.Indexed = true
	}
	return l.withEntry(ctx, r, c, p, func(b boot.Loader) error { return b.Stage(ctx, r.State.Slot, payload) })
}

// Keeper is the part of a boot loader that cannot make anything new boot.
type Keeper interface {
	Entries(ctx context.Context) (boot.State, error)
	Keep(ctx context.Context, s slot.Slot) error
	Forget(ctx context.Context, s slot.Slot) error
}

// With opens the boot loader of this host while use runs.
func (l *Loader) With(r *record.Run, c *hostconfig.Config, use func(Keeper) error) error {
	vars, err := l.Machine.Firmware()
	if err != nil {
		return err
	}
	return l.withVars(r, c, vars, func(b boot.Loader) error { return use(b) })
}

// WithToUndo is With for an Undo. Without access to the firmware's variables the
// operation cannot have changed them: then hasVars is false, and use restores only the files
// on the ESP. If the operation has not changed what boots, WithToUndo ignores errors,
// so that a broken or missing ESP does not stop the undo.
func (l *Loader) WithToUndo(r *record.Run, c *hostconfig.Config, use func(l Keeper, hasVars bool) error) error {
	vars, err := l.Machine.Firmware()
	if hasVars := err == nil; hasVars || errkind.Of(err) == errkind.Precondition {
		if !hasVars {
			r.Logf(slog.LevelWarn, "the variables of the firmware are left as they are: %v", err)
			vars = efivar.None{}
		}
		err = l.withVars(r, c, vars, func(b boot.Loader) error { return use(b, hasVars) })
	}
	if err != nil && r.State.Examined && !r.State.BootBegun {
		r.Logf(slog.LevelWarn, "the boot files are left as they are, because this operation has not changed them: %v", err)
		return nil
	}
	return err
}

// withEntry opens the boot loader of this host while use runs. use may give the slot boot
// files or a trial, so p must prove the slot. withEntry sets BootBegun before.
func (l *Loader) withEntry(ctx context.Context, r *record.Run, c *hostconfig.Config, p record.Proof, use func(boot.Loader) error) error {
	if !p.Of(r.State.Slot) {
		return errkind.Errorf(errkind.Internal, "no proof that %s has the content of its image", r.State.Slot)
	}
	vars, err := l.Machine.Firmware()
	if err != nil {
		return err
	}
	return l.withVars(r, c, vars, func(b boot.Loader) error {
		if !r.State.BootBegun {
			r.State.BootBegun = true
			if err := r.Save(ctx); err != nil {
				return err
			}
		}
		return use(b)
	})
}

func (l *Loader) withVars(r *record.Run, c *hostconfig.Config, vars efivar.Store, use func(boot.Loader) error) error {
	device, err := l.espDevice(r, c)
	if err != nil {
		return err
	}
	members, err := l.Machine.ESP(device)
	if err != nil {
		return err
	}
	return l.withESP(r, c, func(esp string) error {
		kind := boot.Kind(r.State.Bootloader)
		if kind == "" {
			kind = boot.KindOf(os.DirFS(esp), r.State.Index)
		}
		b, err := boot.New(kind, boot.Host{
			ESP: esp, Members: members, Vars: vars, Arch: boot.Arch(l.Machine.Arch), Index: r.State.Index,
			Fallback: boot.Fallback(c.Spec().OS.UEFIFallback), Beside: r.State.Beside, Touch: l.Touch,
		})
		if err != nil {
			return err
		}
		return use(b)
	})
}

func (l *Loader) espDevice(r *record.Run, c *hostconfig.Config) (string, error) {
	return r.State.Path(c, record.ESPID(&c.Spec().Storage))
}

// withESP mounts the host's EFI system partition while use runs.
func (l *Loader) withESP(r *record.Run, c *hostconfig.Config, use func(esp string) error) error {
	device, err := l.espDevice(r, c)
	if err != nil {
		return err
	}
	at := filepath.Join(l.Root, espRoot)
	return l.Machine.WithMount(l.Touch, device, "vfat", at, func() error { return use(at) })
}

// Try makes the next boot a trial of the slot, which p proves. An installed slot also becomes
// the default, unless it is beside another system.
func (l *Loader) Try(ctx context.Context, r *record.Run, c *hostconfig.Config, p record.Proof) error {
	return l.withEntry(ctx, r, c, p, func(b boot.Loader) error {
		if err := b.Try(ctx, r.State.Slot); err != nil || r.State.Purpose != record.Installs || r.State.Beside {
			return err
		}
		return b.Keep(ctx, r.State.Slot)
	})
}

// StageEffects describes what Stage does.
func StageEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	kernel := ""
	if p.Uname != "" {
		kernel = " " + p.Uname
	}
	out.Add("stage-boot-files", p.Record.Slot.String(), "put the kernel%s and the boot loader of %s on the EFI system partition", kernel, p.Record.Slot)
	return out
}

// TryEffects describes what Try does, and, in an installation, the step of it that hands
// over the datastore.
func TryEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	in := p.Record.Slot
	if p.Record.Purpose != record.Installs {
		out.Add("boot-once", in.String(), "have the firmware boot %s once, and %s again after that", in, in.Other())
		if fallback(p) == hostconfig.FallbackOptimistic {
			renewsFallback(&out, p)
		}
		return out
	}
	if !p.Config.Spec().Trident.Disable {
		out.Add("hand-over", "", "give the datastore and the logs to the new system")
	}
	if p.Record.Beside {
		out.Add("boot-once", in.String(), "have the firmware boot %s next, and the present system after that", in)
		return out
	}
	out.Add("boot-once", in.String(), "have the firmware boot %s next", in)
	out.Add("make-default", in.String(), "make %s the default boot entry", in)
	renewsFallback(&out, p)
	return out
}

// KeepEffects describes what Keep of package boot does.
func KeepEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	if p.Record.Purpose == record.Installs {
		return nil // "try" has done that
	}
	out.Add("make-default", p.Record.Slot.String(), "make %s the default boot entry", p.Record.Slot)
	if fallback(p) != hostconfig.FallbackOptimistic { // else "try" has done that
		renewsFallback(&out, p)
	}
	return out
}

func fallback(p *record.Examined) hostconfig.UEFIFallback { return p.Config.Spec().OS.UEFIFallback }

func renewsFallback(out *change.Effects, p *record.Examined) {
	if fallback(p) != hostconfig.FallbackDisabled {
		out.Add("renew-fallback", p.Record.Slot.String(), "renew the fallback boot files in EFI/BOOT from %s", p.Record.Slot)
	}
}
