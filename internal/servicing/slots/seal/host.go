package seal

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/slot"
)

// Key opens a volume.
type Key = luks.Key

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

// TakeOver seals the volumes to the running slot, if they have tokens of systemd-pcrlock(8): as
// long as both exist, either opens the volumes.
func (s *Sealer) TakeOver(ctx context.Context, b Book, volumes []Volume, running slot.Slot, to Registers, key luks.Key) error {
	has, err := s.HasPCRLock(ctx, volumes)
	if err != nil || !has {
		return err
	}
	now, err := s.Running(ctx, to)
	if err != nil {
		return err
	}
	return s.Adopt(ctx, b, volumes, running, now, key)
}

// String returns the registers for people.
func (r Registers) String() string {
	if len(r) == 0 {
		return "no register"
	}
	sorted := slices.Sorted(slices.Values(r))
	return fmt.Sprint([]int(sorted))
}
