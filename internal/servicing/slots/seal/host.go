package seal

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// Key opens a volume.
type Key = luks.Key

// Chip is the TPM of a host.
type Chip = tpm.Chip

// New returns the Sealer of a host. volumes and chip are those of this machine if they are nil.
func New(volumes luks.Manager, chip tpm.Chip, touch func(name string, change func() error) error) *Sealer {
	if volumes == nil {
		volumes = luks.Host{}
	}
	if chip == nil {
		chip = tpm.Host{}
	}
	return &Sealer{Volumes: volumes, Chip: chip, Touch: touch}
}

// Tools returns the names of the programs that a Sealer runs.
func Tools() []string { return []string{"cryptsetup", "systemd-cryptenroll"} }

// NewVolume returns the volume with an ID in the configuration, on a device, with a name below
// /dev/mapper.
func NewVolume(id, device, name string) Volume {
	return Volume{id, luks.Volume{Device: device, Name: name}}
}

// Open reads the headers of the programs of a boot.
func Open(loader, uki *io.SectionReader) (b tpm.Boot, err error) {
	if b.Loader, err = tpm.OpenProgram(loader, loader.Size()); err != nil {
		return b, fmt.Errorf("the boot loader: %w", err)
	}
	if b.UKI, err = tpm.OpenProgram(uki, uki.Size()); err != nil {
		return b, fmt.Errorf("the UKI: %w", err)
	}
	return b, nil
}

// Clear erases the TPM.
func (s *Sealer) Clear(ctx context.Context) error {
	return s.Touch("clear TPM", func() error { return s.Chip.Clear(ctx) })
}

// CheckKey returns the key with which an update binds the volumes: key, if it is not nil, or
// nil if the TPM opens all of them in its present state. The error is of kind Denied if key does
// not open a volume, and of kind Precondition if nothing does.
func (s *Sealer) CheckKey(ctx context.Context, volumes []Volume, to Registers, key luks.Key) (luks.Key, error) {
	if key != nil {
		for _, v := range volumes {
			if err := s.Volumes.Test(ctx, v.Volume, key); err != nil {
				return nil, errkind.WithName(fmt.Errorf("the recovery key: %w", err), errkind.NameReadRecoveryKeyFile)
			}
		}
		return key, nil
	}
	opens, err := s.Opens(ctx, volumes, to)
	if err != nil || opens {
		return nil, err
	}
	if has, err := s.HasPCRLock(ctx, volumes); err != nil || has {
		return nil, err
	}
	err = errkind.Errorf(errkind.Precondition, "the TPM does not open the encrypted volumes in the present state of this host, and there is no recovery key to bind them with")
	return nil, errkind.WithHint(err, "Name a file with the recovery key in storage.encryption.recoveryKeyUrl; its mode has to be 0600.")
}

// TakeOver makes the tokens of the running slot known to the book, if another program has made
// them, so that nothing removes them with those of the other slot. Volumes with a token of
// systemd-pcrlock(8) it seals to the running slot: as long as both exist, either opens them.
func (s *Sealer) TakeOver(ctx context.Context, b Book, volumes []Volume, running slot.Slot, to Registers, key luks.Key) error {
	locked, err := s.HasPCRLock(ctx, volumes)
	if err != nil {
		return err
	}
	unknown := slices.DeleteFunc(slices.Clone(volumes), func(v Volume) bool { return b.of(v.ID, running) != nil })
	if len(unknown) == 0 && !locked {
		return nil
	}
	now, err := s.Running(ctx, to)
	if err != nil && !locked && errkind.Of(err) == errkind.Unsupported {
		return nil // no token with register 11 has opened the volumes
	}
	if err != nil {
		return err
	}
	if locked {
		return s.seal(ctx, b, volumes, record.Sealed{Slot: running}, now, key)
	}
	for _, v := range unknown {
		if err := s.note(ctx, b, v, running, now); err != nil {
			return err
		}
	}
	return nil
}

// note adds to the book the tokens of v that have one of the bindings.
func (s *Sealer) note(ctx context.Context, b Book, v Volume, running slot.Slot, now Bindings) error {
	head, err := s.Volumes.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	e := record.Sealed{Volume: v.ID, Slot: running, Bare: head.Bare()}
	for i, one := range now.All {
		if _, ok := head.Bound(one); ok {
			e.Policies = append(e.Policies, now.policies()[i])
		}
	}
	if len(e.Policies) == 0 {
		return nil
	}
	return b.put(ctx, e)
}

// String returns the registers for people.
func (r Registers) String() string {
	if len(r) == 0 {
		return "no register"
	}
	sorted := slices.Sorted(slices.Values(r))
	return fmt.Sprint([]int(sorted))
}
