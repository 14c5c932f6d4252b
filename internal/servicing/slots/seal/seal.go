// Package seal binds the encrypted volumes of a host to its slots: the TPM opens a volume while
// its registers have the values that a slot gives them. Each slot has tokens of its own in the
// header of each volume (docs/encryption.md), so that an update never changes what opens the
// volumes for the other slot. There is no state in the TPM, and none beside the headers but a
// list in the record of the operation, from which the tokens of a slot are known.
package seal

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
)

// Sealer changes the headers of encrypted volumes. After a failure or a power cut a caller may
// call a method again, with the same result. At each moment the TPM opens the volumes for
// a slot that had tokens before, unless the method removes the tokens of this slot.
type Sealer struct {
	Volumes luks.Manager
	Chip    tpm.Chip
	// Touch makes one change of the host, which has the given name.
	Touch func(name string, change func() error) error
}

// Volume is an encrypted volume of a configuration.
type Volume struct {
	ID string
	luks.Volume
}

// Book is the list of sealed volumes in the record of an operation.
type Book struct {
	Sealed *[]record.Sealed
	Save   func(context.Context) error // journals the record
}

// of returns the place of a volume and slot in the list, or nil.
func (b Book) of(volume string, in slot.Slot) *record.Sealed {
	for i := range *b.Sealed {
		if e := &(*b.Sealed)[i]; e.Volume == volume && e.Slot == in {
			return e
		}
	}
	return nil
}

// put replaces the entry of a volume and slot, or adds one, and journals the list.
func (b Book) put(ctx context.Context, e record.Sealed) error {
	if old := b.of(e.Volume, e.Slot); old != nil {
		*old = e
	} else {
		*b.Sealed = append(*b.Sealed, e)
	}
	return b.Save(ctx)
}

// Seal has the TPM open the volumes while the registers have the values of one of to, which
// are those of a slot. key opens the volumes now; a nil key has the TPM do it.
func (s *Sealer) Seal(ctx context.Context, b Book, volumes []Volume, in slot.Slot, to Bindings, key luks.Key) error {
	return s.seal(ctx, b, volumes, record.Sealed{Slot: in, Own: true}, to, key)
}

func (s *Sealer) seal(ctx context.Context, b Book, volumes []Volume, like record.Sealed, to Bindings, key luks.Key) error {
	for _, v := range volumes {
		e := like
		e.Volume = v.ID
		if old := b.of(v.ID, e.Slot); old != nil && old.Own == e.Own {
			e = *old
		}
		e.Interim, e.Mixed = to.Interim != nil, union(e.Mixed, to.mixed())
		if err := s.enroll(ctx, b, v, e, to, key); err != nil {
			return fmt.Errorf("bind the volume %s to %s: %w", v.ID, e.Slot, err)
		}
	}
	return nil
}

// enroll makes the missing tokens of e.
func (s *Sealer) enroll(ctx context.Context, b Book, v Volume, e record.Sealed, to Bindings, key luks.Key) error {
	if e.Making {
		if err := s.killHalves(ctx, v, e); err != nil {
			return err
		}
	}
	head, err := s.Volumes.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	e.Making, e.Bare, e.Policies = true, head.Bare(), union(union(e.Policies, to.policies()), e.Mixed)
	if err := b.put(ctx, e); err != nil {
		return err
	}
	for _, one := range slices.Concat(to.All, to.Mixed) {
		err := s.Touch("bind "+v.ID+" to "+e.Slot.String(), func() error {
			_, err := s.Volumes.Enroll(ctx, v.Volume, key, one)
			return err
		})
		if err != nil {
			return err
		}
	}
	e.Making = false
	return b.put(ctx, e)
}

// killHalves removes the key slots that enrolments have left without a token.
func (s *Sealer) killHalves(ctx context.Context, v Volume, e record.Sealed) error {
	head, err := s.Volumes.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	for _, n := range head.Bare() {
		if slices.Contains(e.Bare, n) {
			continue
		}
		err := s.Touch("remove half a token of "+v.ID, func() error { return s.Volumes.KillSlot(ctx, v.Volume, n) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Unseal removes the tokens that this operation has made for a slot, from the volumes that
// exist. The caller must have made the slot unbootable.
func (s *Sealer) Unseal(ctx context.Context, b Book, volumes []Volume, in slot.Slot) error {
	return s.remove(ctx, b, volumes, func(e record.Sealed) bool { return e.Slot == in && e.Own })
}

// Forget removes the tokens of a slot, and those of the other slot for boots with a program of
// this one. The caller must have made the slot unbootable.
func (s *Sealer) Forget(ctx context.Context, b Book, volumes []Volume, in slot.Slot) error {
	if err := s.remove(ctx, b, volumes, func(e record.Sealed) bool { return e.Slot == in }); err != nil {
		return err
	}
	for _, v := range volumes {
		e := b.of(v.ID, in.Other())
		if e == nil || len(e.Mixed) == 0 {
			continue
		}
		if err := s.wipe(ctx, b, v, *e, e.Mixed); err != nil {
			return fmt.Errorf("remove the tokens of %s with the boot loader of %s from the volume %s: %w", in.Other(), in, v.ID, err)
		}
		kept := *e
		kept.Policies = slices.DeleteFunc(slices.Clone(e.Policies), func(p string) bool { return slices.Contains(e.Mixed, p) })
		kept.Mixed = nil
		if err := b.put(ctx, kept); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sealer) remove(ctx context.Context, b Book, volumes []Volume, which func(record.Sealed) bool) error {
	for _, e := range slices.Clone(*b.Sealed) {
		if !which(e) {
			continue
		}
		i := slices.IndexFunc(volumes, func(v Volume) bool { return v.ID == e.Volume })
		if i >= 0 {
			if err := s.wipe(ctx, b, volumes[i], e, e.Policies); err != nil {
				return fmt.Errorf("remove the tokens of %s from the volume %s: %w", e.Slot, e.Volume, err)
			}
		}
		*b.Sealed = slices.DeleteFunc(*b.Sealed, func(o record.Sealed) bool { return o.Volume == e.Volume && o.Slot == e.Slot })
		if err := b.Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wipe removes the tokens of e that have one of the policies, but not one that the other slot
// has as well: with register 7 alone, both slots have the same.
func (s *Sealer) wipe(ctx context.Context, b Book, v Volume, e record.Sealed, policies []string) error {
	head, err := s.Volumes.Header(ctx, v.Device)
	if errkind.Of(err) == errkind.NotFound {
		return nil // it is not encrypted yet
	}
	if err != nil {
		return err
	}
	shared := b.of(e.Volume, e.Slot.Other())
	for _, t := range head.Tokens {
		p := hex.EncodeToString(t.Policy())
		if p == "" || !slices.Contains(policies, p) || shared != nil && slices.Contains(shared.Policies, p) {
			continue
		}
		err := s.Touch("remove a token of "+v.ID, func() error { return s.Volumes.Wipe(ctx, v.Volume, t.Number) })
		if err != nil {
			return err
		}
	}
	if !e.Making {
		return nil
	}
	return s.killHalves(ctx, v, e)
}

// DropPCRLock removes the tokens of systemd-pcrlock(8) from the volumes. In a header, the system
// tries tokens in their order, and one of systemd-pcrlock whose policy file is not that of the
// TPM ends the attempt. The caller must have sealed the volumes for both slots.
func (s *Sealer) DropPCRLock(ctx context.Context, volumes []Volume) error {
	for _, v := range volumes {
		head, err := s.Volumes.Header(ctx, v.Device)
		if err != nil {
			return err
		}
		for _, t := range head.Tokens {
			if !t.PCRLock {
				continue
			}
			err := s.Touch("remove the pcrlock token of "+v.ID, func() error { return s.Volumes.Wipe(ctx, v.Volume, t.Number) })
			if err != nil {
				return fmt.Errorf("remove the token of systemd-pcrlock from the volume %s: %w", v.ID, err)
			}
		}
	}
	return nil
}

// HasPCRLock reports whether a volume has a token of systemd-pcrlock(8), as those of hosts that
// upstream's Trident has installed.
func (s *Sealer) HasPCRLock(ctx context.Context, volumes []Volume) (bool, error) {
	for _, v := range volumes {
		head, err := s.Volumes.Header(ctx, v.Device)
		if err != nil || slices.ContainsFunc(head.Tokens, func(t luks.Token) bool { return t.PCRLock }) {
			return err == nil, err
		}
	}
	return false, nil
}

// union returns a with the texts of b that it lacks.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, text := range b {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
