package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/servicing/slots/seal"
	"github.com/trident-project/trident/internal/storage"
)

// encryption returns the encrypted volumes of a configuration; nil if it has none.
func encryption(c *hostconfig.Config) *hostconfig.Encryption {
	if e := c.Spec().Storage.Encryption; e != nil && len(e.Volumes) > 0 {
		return e
	}
	return nil
}

func registers(e *hostconfig.Encryption) seal.Registers {
	out := seal.Registers{}
	for _, p := range e.PCRs {
		out = append(out, int(p))
	}
	return out
}

func (l *Loader) sealer() *seal.Sealer {
	return seal.New(l.Machine.Disks.Volumes, l.TPM, l.Touch)
}

// Keys returns what gives the recovery key for each new volume of an installation.
func (l *Loader) Keys(r *record.Run) storage.Keys {
	return func(string) (seal.Key, error) {
		c, err := r.State.Config()
		if err != nil {
			return nil, err
		}
		return l.Key(r, c)
	}
}

func (l *Loader) keys() seal.Keys { return seal.Keys{Root: l.Root, Touch: l.Touch} }

func (l *Loader) book(r *record.Run) seal.Book {
	return seal.Book{Sealed: &r.State.Sealed, Save: func(ctx context.Context) error {
		return l.Touch("note sealed volumes", func() error { return r.Save(ctx) })
	}}
}

// volumes returns the encrypted volumes of a configuration, which exist.
func (l *Loader) volumes(r *record.Run, c *hostconfig.Config) ([]seal.Volume, error) {
	var out []seal.Volume
	for _, v := range encryption(c).Volumes {
		device, err := r.State.Path(c, v.DeviceID)
		if err != nil {
			return nil, err
		}
		out = append(out, seal.NewVolume(v.ID, device, v.DeviceName))
	}
	return out, nil
}

// CheckSeal finds what would make Seal fail: a TPM that cannot be used, a register that cannot
// be predicted, a missing tool, and a recovery key that is missing or wrong.
func (l *Loader) CheckSeal(ctx context.Context, r *record.Run, e *record.Examined) error {
	enc := encryption(e.Config)
	if enc == nil {
		return nil
	}
	if err := l.Machine.FindTools(seal.Tools()); err != nil {
		return err
	}
	s := l.sealer()
	if err := s.Chip.Check(ctx); err != nil && (!enc.ClearTPMOnInstall || errkind.Of(err) != errkind.Precondition) {
		return errkind.WithName(fmt.Errorf("check the TPM, which storage.encryption needs: %w", err), errkind.NameGenerateTpm2AccessPolicy)
	}
	if r.State.Purpose == record.Installs {
		if enc.RecoveryKeyURL == "" {
			r.Logf(slog.LevelWarn, "storage.encryption.recoveryKeyUrl is not set: Trident makes the recovery key, and the only copy is in %s until this system reboots", seal.File(r.ID))
		} else if _, err := l.keys().Named(string(enc.RecoveryKeyURL)); err != nil {
			return err
		}
	} else if _, err := l.updateKey(ctx, r, e.Config); err != nil {
		return err
	}
	_, err := l.predict(ctx, r, e.Config)
	return err
}

// predict returns the bindings of the slot to the values that its boot gives the registers.
func (l *Loader) predict(ctx context.Context, r *record.Run, c *hostconfig.Config) (out seal.Bindings, err error) {
	if to := registers(encryption(c)); !r.State.HasSealedKernel() {
		if !to.ArePolicyAlone() {
			err := errkind.Errorf(errkind.Unsupported, "storage.encryption.pcrs: the image boots by GRUB, and only register 7 can be predicted for it, not %s", to)
			return out, errkind.WithName(err, errkind.NameGenerateTpm2AccessPolicy)
		}
		return l.sealer().Running(ctx, to)
	}
	next, done, err := l.payload(r, c, "")
	if err != nil {
		return out, err
	}
	defer func() { _ = done() }()
	var old *boot.Payload
	if r.State.Purpose != record.Installs {
		device, err := l.espDevice(r, c)
		if err != nil {
			return out, err
		}
		files, _, closeFiles, err := l.Machine.ESPNow(device)
		if err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, closeFiles()) }()
		if old, err = boot.ReadSlot(files, boot.Arch(l.Machine.Arch), r.State.Index, r.State.Slot.Other()); err != nil {
			return out, err
		}
	}
	out, err = l.predictFrom(ctx, registers(encryption(c)), old, next)
	return out, errkind.WithName(err, errkind.NameGenerateTpm2AccessPolicy)
}

func (l *Loader) predictFrom(ctx context.Context, to seal.Registers, old, next *boot.Payload) (out seal.Bindings, err error) {
	err = next.WithPrograms(func(loader, uki *io.SectionReader) error {
		boots, err := seal.Open(loader, uki)
		if err != nil {
			return err
		}
		if old == nil {
			out, err = l.sealer().Predict(ctx, to, nil, boots)
			return err
		}
		return old.WithPrograms(func(loader, uki *io.SectionReader) error {
			runs, err := seal.Open(loader, uki)
			if err == nil {
				out, err = l.sealer().Predict(ctx, to, &runs, boots)
			}
			return err
		})
	})
	return out, err
}

// updateKey returns the key that opens the volumes of a running host, or nil if the TPM does.
func (l *Loader) updateKey(ctx context.Context, r *record.Run, c *hostconfig.Config) (seal.Key, error) {
	enc := encryption(c)
	volumes, err := l.volumes(r, c)
	if err != nil {
		return nil, err
	}
	var key seal.Key
	if enc.RecoveryKeyURL != "" {
		key, err = l.keys().Named(string(enc.RecoveryKeyURL))
		if err != nil && errkind.Of(err) != errkind.NotFound { // a person may keep it elsewhere
			return nil, err
		}
	}
	return l.sealer().CheckKey(ctx, volumes, registers(enc), key)
}

// Key returns the recovery key of an installation: that of the configuration, or one that
// Trident makes. It is the same at each call until the host reboots.
func (l *Loader) Key(r *record.Run, c *hostconfig.Config) (seal.Key, error) {
	if enc := encryption(c); enc.RecoveryKeyURL != "" {
		return l.keys().Named(string(enc.RecoveryKeyURL))
	}
	if !r.State.Partitioned {
		return l.keys().Made(r.ID)
	}
	key, err := l.keys().Find(r.ID)
	if errkind.Of(err) == errkind.NotFound {
		err = errkind.Errorf(errkind.Precondition, "the recovery key that Trident has made was only in memory, and is gone: the host has rebooted during the installation")
		err = errkind.WithHint(err, "Install again.")
	}
	return key, err
}

// RecoveryKey returns the recovery key that Trident has made for an installation. The error is of
// kind NotFound if it has made none since the host has booted.
func (l *Loader) RecoveryKey(operation string) ([]byte, error) { return l.keys().Find(operation) }

// ClearTPM erases the TPM, if the configuration of an installation asks for it.
func (l *Loader) ClearTPM(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if enc := encryption(c); enc == nil || !enc.ClearTPMOnInstall || r.State.Purpose != record.Installs {
		return nil
	}
	return l.sealer().Clear(ctx)
}

// Seal has the TPM open the encrypted volumes when the slot boots. It does not change what
// opens them for the other slot.
func (l *Loader) Seal(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	enc := encryption(c)
	if enc == nil {
		return nil
	}
	s, b, to := l.sealer(), l.book(r), registers(enc)
	volumes, err := l.volumes(r, c)
	if err != nil {
		return err
	}
	next, err := l.predict(ctx, r, c)
	if err != nil {
		return err
	}
	var key seal.Key
	if r.State.Purpose == record.Installs {
		key, err = l.Key(r, c)
	} else if key, err = l.updateKey(ctx, r, c); err == nil {
		err = s.TakeOver(ctx, b, volumes, r.State.Slot.Other(), to, key)
	}
	if err == nil {
		err = s.Seal(ctx, b, volumes, r.State.Slot, next, key)
	}
	if err == nil {
		err = s.DropPCRLock(ctx, volumes)
	}
	if err != nil {
		return errkind.WithName(err, errkind.NameGenerateTpm2AccessPolicy)
	}
	if r.State.Purpose == record.Installs && enc.RecoveryKeyURL == "" {
		r.Logf(slog.LevelWarn, "copy the recovery key of the encrypted volumes from %s to a safe place before this system reboots", seal.File(r.ID))
	}
	if next.Interim != nil {
		r.Logf(slog.LevelInfo, "the TPM binds the encrypted volumes to registers %s after the first boot; until then to %s", to, next.Interim)
	}
	return nil
}

// Unseal is the Undo of Seal, once the slot cannot boot. It leaves an installed system alone once
// the host has rebooted, because that system stays bootable.
func (l *Loader) Unseal(ctx context.Context, r *record.Run) error {
	if r.State.Purpose == record.Installs && r.State.HasRebooted(l.Runner.Life.Boot) {
		return nil
	}
	c, err := r.State.Config()
	if err != nil || len(r.State.Sealed) == 0 || encryption(c) == nil {
		return err
	}
	volumes, err := l.volumes(r, c)
	if err != nil {
		return err
	}
	return l.sealer().Unseal(ctx, l.book(r), volumes, r.State.Slot)
}

// ForgetSeal removes the tokens of the slot, which cannot boot any more, from the volumes.
func (l *Loader) ForgetSeal(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if len(r.State.Sealed) == 0 || encryption(c) == nil {
		return nil
	}
	volumes, err := l.volumes(r, c)
	if err != nil {
		return err
	}
	return l.sealer().Forget(ctx, l.book(r), volumes, r.State.Slot)
}

// Confirm fails if the TPM has not opened the encrypted volumes for this boot. After the first
// boot of an installation it binds them to register 4 as well.
func (l *Loader) Confirm(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	enc := encryption(c)
	if enc == nil || r.State.Purpose == record.GoesBack {
		return nil
	}
	volumes, err := l.volumes(r, c)
	if err != nil {
		return err
	}
	return l.sealer().Confirm(ctx, l.book(r), volumes, r.State.Slot, registers(enc))
}

// SealEffects describes what Seal does.
func SealEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	if enc := encryption(e.Config); enc != nil {
		for _, v := range enc.Volumes {
			out.Add("seal", v.ID, "have the TPM open %s for %s, by the values of registers %s", v.DeviceName, e.Record.Slot, registers(enc))
		}
	}
	return out
}

// ClearEffects describes what ClearTPM does.
func ClearEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	if enc := encryption(e.Config); enc != nil && enc.ClearTPMOnInstall && e.Record.Purpose == record.Installs {
		out.Add("clear-tpm", "", "clear the TPM: all keys in it are lost, also those of other systems on this machine")
	}
	return out
}
