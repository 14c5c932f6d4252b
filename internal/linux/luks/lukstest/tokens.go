package lukstest

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
)

// Unlock opens a volume as a boot with these registers does. It reports whether a token fits.
func (f *Fake) Unlock(v luks.Volume, registers map[int][]byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	got, err := f.get(v.Device)
	if err != nil || !got.unlocks(registers) {
		return false
	}
	f.open[v.Name] = got.head.UUID
	return true
}

// unlocks does what systemd-cryptsetup(8) does at boot: it tries the tokens in their order.
// A token of systemd-pcrlock(8) ends the attempt.
func (v *volume) unlocks(registers map[int][]byte) bool {
	for _, t := range v.head.Tokens {
		if t.PCRLock {
			return v.pcrlock(registers)
		}
		matches := len(t.Slots) > 0
		for n, value := range v.bound[t.Number] {
			matches = matches && bytes.Equal(registers[n], value)
		}
		if matches {
			return true
		}
	}
	return false
}

// Unlocks reports whether a boot with these registers opens the volume on a device by itself.
func (f *Fake) Unlocks(device string, registers map[int][]byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.get(device)
	return err == nil && v.unlocks(registers)
}

// Enroll implements [luks.Manager].
func (f *Fake) Enroll(ctx context.Context, v luks.Volume, key luks.Key, to luks.Binding) (int, error) {
	head, err := f.Header(ctx, v.Device)
	if err != nil {
		return 0, err
	}
	if n, ok := head.Bound(to); ok {
		return n, nil
	}
	if f.Registers == nil {
		return 0, errkind.Errorf(errkind.Unsupported, "this host has no TPM")
	}
	now := f.Registers()
	to = luks.Binding{PCRs: maps.Clone(to.PCRs)}
	for n, value := range to.PCRs {
		if value == nil {
			to.PCRs[n] = now[n]
		}
	}
	token, slot := 0, 0
	err = f.touch("add key slot", func() error {
		got, err := f.get(v.Device)
		if err != nil {
			return err
		}
		if err := got.opens(key); key != nil && err != nil || key == nil && !got.unlocks(now) {
			return errkind.Errorf(errkind.Denied, "neither a key nor the TPM opens the volume")
		}
		for slices.Contains(got.head.Slots, slot) {
			slot++
		}
		got.addSlot(slot, nil)
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = f.touch("add token", func() error {
		got := f.volumes[v.Device]
		for _, t := range got.head.Tokens { // sorted
			if t.Number == token {
				token++
			}
		}
		got.addToken(luks.NewTPMToken(token, slot, to))
		got.bound[token] = to.PCRs
		return nil
	})
	return token, err
}

func (v *volume) addToken(t luks.Token) {
	v.head.Tokens = append(v.head.Tokens, t)
	slices.SortFunc(v.head.Tokens, func(a, b luks.Token) int { return a.Number - b.Number })
	v.head.Epoch++
}

// AddPCRLock adds a token of systemd-pcrlock(8), and returns its number. It opens the volume if
// opens says so, and otherwise ends the attempt to open the volume, as the real one does if the
// policy file is not that of the TPM.
func (f *Fake) AddPCRLock(device string, opens func(registers map[int][]byte) bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.volumes[device]
	slot := v.head.Slots[len(v.head.Slots)-1] + 1
	v.addSlot(slot, nil)
	token := luks.Token{Number: len(v.head.Tokens), Type: "systemd-tpm2", Slots: []int{slot}, PCRLock: true}
	v.pcrlock = opens
	v.addToken(token)
	return token.Number
}

// Wipe implements [luks.Manager].
func (f *Fake) Wipe(ctx context.Context, v luks.Volume, token int) error {
	head, err := f.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	t, ok := head.Token(token)
	if !ok {
		return nil
	}
	for _, s := range t.Slots {
		if err := f.KillSlot(ctx, v, s); err != nil {
			return err
		}
	}
	return f.touch("remove token", func() error {
		got := f.volumes[v.Device]
		got.head.Tokens = slices.DeleteFunc(got.head.Tokens, func(t luks.Token) bool { return t.Number == token })
		delete(got.bound, token)
		got.head.Epoch++
		return nil
	})
}

// KillSlot implements [luks.Manager].
func (f *Fake) KillSlot(ctx context.Context, v luks.Volume, slot int) error {
	head, err := f.Header(ctx, v.Device)
	if err != nil || !slices.Contains(head.Slots, slot) {
		return err
	}
	if err := head.MayKill(slot); err != nil {
		return err
	}
	return f.touch("remove key slot", func() error {
		got := f.volumes[v.Device]
		got.head.Slots = slices.DeleteFunc(got.head.Slots, func(s int) bool { return s == slot })
		for i, t := range got.head.Tokens {
			got.head.Tokens[i].Slots = slices.DeleteFunc(slices.Clone(t.Slots), func(s int) bool { return s == slot })
		}
		delete(got.keys, slot)
		got.head.Epoch++
		return nil
	})
}
