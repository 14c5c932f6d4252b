package seal

import (
	"context"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// Confirm fails, with kind Unhealthy, if the TPM has not opened the volumes for this boot of a
// slot, so that the next boot would wait for the recovery key. After the first boot of a slot
// Confirm replaces its tokens by those of this boot: with all registers, and for the kind of
// initrd that it has.
func (s *Sealer) Confirm(ctx context.Context, b Book, volumes []Volume, in slot.Slot, to Registers) error {
	for _, v := range volumes {
		e := b.of(v.ID, in)
		if e == nil {
			continue
		}
		now, err := s.Running(ctx, to)
		if err != nil {
			return err
		}
		opened, err := s.opened(ctx, v, now)
		if err != nil {
			return err
		}
		if e.Interim && !opened { // else a power cut has stopped complete
			if opened, err = s.openedInterim(ctx, v); err != nil {
				return err
			}
		}
		if !opened {
			return s.notOpened(ctx, v, in, to)
		}
		if slices.Contains(e.Mixed, now.policies()[0]) {
			continue // by the boot loader of the other slot: the next boot is by its own
		}
		if err := s.complete(ctx, b, v, *e, now); err != nil {
			return fmt.Errorf("bind the volume %s to the registers of this boot: %w", v.ID, err)
		}
	}
	return nil
}

// opened reports whether a token of v has the values that the registers had in this boot when
// the system opened the volumes.
func (s *Sealer) opened(ctx context.Context, v Volume, now Bindings) (bool, error) {
	head, err := s.Volumes.Header(ctx, v.Device)
	_, ok := head.Bound(now.All[0])
	return ok, err
}

// openedInterim is opened for the registers that an installation binds to until the first boot.
func (s *Sealer) openedInterim(ctx context.Context, v Volume) (bool, error) {
	for _, set := range interims() {
		now, err := s.Running(ctx, set)
		if err != nil {
			return false, err
		}
		if opened, err := s.opened(ctx, v, now); opened || err != nil {
			return opened, err
		}
	}
	return false, nil
}

func (s *Sealer) notOpened(ctx context.Context, v Volume, in slot.Slot, set Registers) error {
	err := errkind.Errorf(errkind.Unhealthy, "the TPM does not open the volume %s for %s: registers %v had other values than predicted when the system opened it", v.ID, in, []int(set))
	if log, lerr := s.Chip.Log(ctx); lerr == nil && set.has(tpm.UKIRegister) && len(log.Until(tpm.AfterUnlock).Events) == len(log.Events) {
		return errkind.WithHint(err, "The system has not recorded its phases: its systemd measures nothing. Leave register 11 out of storage.encryption.pcrs.")
	}
	return errkind.WithHint(err, "Compare `/usr/lib/systemd/systemd-pcrlock log` of this boot with that of the previous system.")
}

// complete replaces the tokens of e by full, those of the running system. At each moment tokens
// of one kind are whole.
func (s *Sealer) complete(ctx context.Context, b Book, v Volume, e record.Sealed, full Bindings) error {
	keep := union(full.policies(), e.Mixed)
	if !e.Making && !e.Interim && slices.Equal(e.Policies, keep) {
		return nil
	}
	old := slices.DeleteFunc(slices.Clone(e.Policies), func(p string) bool { return slices.Contains(keep, p) })
	if err := s.enroll(ctx, b, v, e, full, nil); err != nil {
		return err
	}
	if err := s.wipe(ctx, b, v, e, old); err != nil {
		return err
	}
	e.Making, e.Policies, e.Interim = false, keep, false
	return b.put(ctx, e)
}
