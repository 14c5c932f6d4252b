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
