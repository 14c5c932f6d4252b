// Package lukstest has encrypted volumes in memory, and the suite that they and the real
// ones must pass.
package lukstest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
)

// Fake is a [luks.Manager] in memory. Any device may be encrypted. The zero value has no
// encrypted volume, and no TPM. Methods may be called from many goroutines.
type Fake struct {
	// Registers returns the present registers of the TPM; nil: the host has no TPM.
	Registers func() map[int][]byte
	// Touch, if set before the first call, makes each change of a header: Format, Enroll and
	// Wipe write it more than once, as the real tools do. For power cuts.
	Touch func(name string, change func() error) error

	mu      sync.Mutex
	volumes map[string]*volume
	open    map[string]string // UUIDs by names
}

var _ luks.Manager = (*Fake)(nil)

type volume struct {
	head  luks.Header
	keys  map[int]luks.Key       // by slot
	bound map[int]map[int][]byte // by token: registers
	// pcrlock reports whether the policy in the NV index of the TPM fits.
	pcrlock func(registers map[int][]byte) bool
}

func (f *Fake) touch(name string, change func() error) error {
	locked := func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return change()
	}
	if f.Touch == nil {
		return locked()
	}
	return f.Touch(name, locked)
}

// Copy returns the volumes as they are after a power cut: all of them are closed.
func (f *Fake) Copy() *Fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &Fake{Registers: f.Registers, Touch: f.Touch, volumes: map[string]*volume{}, open: map[string]string{}}
	for device, v := range f.volumes {
		c := *v
		c.head.Slots, c.head.Tokens = slices.Clone(v.head.Slots), slices.Clone(v.head.Tokens)
		c.keys, c.bound = maps.Clone(v.keys), maps.Clone(v.bound)
		out.volumes[device] = &c
	}
	return out
}

// Opened returns the UUIDs of the open volumes, by their names.
func (f *Fake) Opened() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.open)
}

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

func (f *Fake) get(device string) (*volume, error) {
	v, ok := f.volumes[device]
	if !ok {
		return nil, errkind.Errorf(errkind.NotFound, "%s has no LUKS2 header", device)
	}
	return v, nil
}

// Format implements [luks.Manager].
func (f *Fake) Format(_ context.Context, v luks.Volume, key luks.Key) error {
	write := func(made *volume) func() error {
		return func() error {
			if f.volumes == nil {
				f.volumes, f.open = map[string]*volume{}, map[string]string{}
			}
			f.volumes[v.Device] = made
			return nil
		}
	}
	made := &volume{head: luks.Header{UUID: v.UUID, Epoch: 1}, keys: map[int]luks.Key{}, bound: map[int]map[int][]byte{}}
	if err := f.touch("write header", write(made)); err != nil {
		return err
	}
	return f.touch("add key slot", func() error {
		made.addSlot(0, key)
		return nil
	})
}

func (v *volume) addSlot(n int, key luks.Key) {
	v.head.Slots = append(v.head.Slots, n)
	slices.Sort(v.head.Slots)
	v.keys[n] = slices.Clone(key)
	v.head.Epoch++
}

// opens returns the key slot that key opens.
func (v *volume) opens(key luks.Key) error {
	for _, k := range v.keys {
		if k != nil && bytes.Equal(k, key) {
			return nil
		}
	}
	return errkind.Errorf(errkind.Denied, "the key opens no key slot")
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

// Open implements [luks.Manager].
func (f *Fake) Open(_ context.Context, v luks.Volume, key luks.Key) error {
	return f.touch("open volume", func() error {
		if is, ok := f.open[v.Name]; ok && is != v.UUID {
			return errkind.Errorf(errkind.Precondition, "/dev/mapper has another volume of this name")
		} else if ok {
			return nil
		}
		got, err := f.get(v.Device)
		if err != nil {
			return err
		}
		if err := got.opens(key); err != nil {
			return err
		}
		f.open[v.Name] = got.head.UUID
		return nil
	})
}

// Close implements [luks.Manager].
func (f *Fake) Close(_ context.Context, v luks.Volume) error {
	return f.touch("close volume", func() error {
		delete(f.open, v.Name)
		return nil
	})
}

// Reboot closes all volumes.
func (f *Fake) Reboot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.open)
}

// Test implements [luks.Manager].
func (f *Fake) Test(_ context.Context, v luks.Volume, key luks.Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	got, err := f.get(v.Device)
	if err != nil {
		return err
	}
	return got.opens(key)
}

// Header implements [luks.Manager].
func (f *Fake) Header(_ context.Context, device string) (luks.Header, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.get(device)
	if err != nil {
		return luks.Header{}, err
	}
	h := v.head
	h.Slots, h.Tokens = slices.Clone(h.Slots), slices.Clone(h.Tokens)
	return h, nil
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
