// Package mdtest has arrays in memory, and the suite that they and a real host pass.
package mdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/md"
)

// Memory is a host whose arrays are in memory. Their members have superblocks, on devices
// that Open opens. An array lost no data as long as one member is in sync. A member that is
// added gets in sync by Sync only.
type Memory struct {
	// Open opens a device for its superblock.
	Open func(device string) (blockdev.Device, error)
	// Differ is how many bytes of any array differ between its members.
	Differ int64
	// Touch, if set before the first call, makes each write of a superblock by Create and Add.
	// For power cuts.
	Touch func(name string, change func() error) error
	// HalfMade, if not 0, is how many members Create has written when the power fails.
	HalfMade int

	mu     sync.Mutex
	arrays []*array
	ids    map[string]byte // the first byte of the UUIDs of members, by their devices
}

var (
	_ md.Manager = (*Memory)(nil)
	_ md.Checker = (*Memory)(nil)
)

// ErrCut is the error of Create when the power has failed.
var ErrCut = errors.New("the power is off")

type array struct {
	md.State
	events uint64
}

// Create implements [md.Manager].
func (m *Memory) Create(ctx context.Context, a md.Array) error {
	if err := m.Stop(ctx, a.UUID); err != nil {
		return err
	}
	m.mu.Lock()
	err := m.free(a)
	made := &array{State: md.State{Kernel: m.unused(), UUID: a.UUID, Name: a.Name, Level: a.Level, Slots: len(a.Members), Action: "idle"}, events: 1}
	for i, d := range a.Members {
		made.Members = append(made.Members, md.Member{Device: d, Slot: i, InSync: true})
	}
	half := m.HalfMade
	m.HalfMade = 0
	m.mu.Unlock()
	for i := range a.Members {
		if err == nil && half > 0 && i == half {
			err = ErrCut
		}
		if err != nil {
			return err
		}
		err = m.touch("write superblock", func() error { return m.write(made, i) })
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrays = append(m.arrays, made)
	return nil
}

// free wipes the members of a new array, none of which another array may have.
func (m *Memory) free(a md.Array) error {
	for _, d := range a.Members {
		if other := m.holder(d); other != nil {
			return errkind.Errorf(errkind.Precondition, "create array %q: %s is a member of %q", a.Name, d, other.Name)
		}
		if err := m.wipe(d); err != nil {
			return err
		}
	}
	return nil
}

// unused returns the name of the kernel for a new array.
func (m *Memory) unused() string {
	for n := 127; ; n-- {
		name := fmt.Sprintf("md%d", n)
		if !slices.ContainsFunc(m.arrays, func(a *array) bool { return a.Kernel == name }) {
			return name
		}
	}
}

func (m *Memory) touch(name string, change func() error) error {
	locked := func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		return change()
	}
	if m.Touch == nil {
		return locked()
	}
	return m.Touch(name, locked)
}

// Assemble replaces all arrays by those whose superblocks are on the devices, as a boot does. A
// member whose superblock is older than that of another one is left out, and one that was not
// in sync stays a member that is not. An array without a member in sync does not run.
func (m *Memory) Assemble(devices ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrays = nil
	newest := map[md.UUID]uint64{}
	found := map[string]md.Superblock{}
	for _, d := range devices {
		dev, err := m.Open(d)
		if err != nil {
			return err
		}
		s, bad := md.Examine(dev, dev.Size())
		if err := dev.Close(); err != nil {
			return err
		}
		if bad == nil {
			found[d], newest[s.Array] = s, max(newest[s.Array], s.Events)
		}
	}
	for _, d := range devices {
		s, ok := found[d]
		if !ok || s.Events < newest[s.Array] {
			continue
		}
		a := m.find(s.Array)
		if a == nil {
			a = &array{State: md.State{Kernel: m.unused(), UUID: s.Array, Name: s.Name, Level: s.Level, Slots: s.Slots, Action: "idle"}, events: s.Events}
			m.arrays = append(m.arrays, a)
		}
		a.Members = append(a.Members, md.Member{Device: d, Slot: s.Role, InSync: s.Role >= 0 && !s.Recovering})
	}
	m.arrays = slices.DeleteFunc(m.arrays, func(a *array) bool {
		return !slices.ContainsFunc(a.Members, func(d md.Member) bool { return d.InSync })
	})
	for _, a := range m.arrays {
		if slices.ContainsFunc(a.Members, func(d md.Member) bool { return d.Slot >= 0 && !d.InSync }) {
			a.Action, a.Done, a.Total = "recover", 0, 1<<20
		}
		if len(a.Members) < a.Slots { // a member that comes back later is out of date
			a.events++
			m.note(a)
		}
	}
	return nil
}

// Stop implements [md.Manager].
func (m *Memory) Stop(_ context.Context, id md.UUID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrays = slices.DeleteFunc(m.arrays, func(a *array) bool { return a.UUID == id })
	return nil
}

// Arrays implements [md.Manager].
func (m *Memory) Arrays(context.Context) ([]md.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []md.State
	for _, a := range m.arrays {
		st := a.State
		st.Members = slices.Clone(a.Members)
		st.Missing = st.Slots
		for _, d := range st.Members {
			if d.InSync {
				st.Missing--
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// Add implements [md.Manager].
func (m *Memory) Add(_ context.Context, id md.UUID, device string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.find(id)
	switch {
	case a == nil:
		return errkind.Errorf(errkind.NotFound, "add %s: the array does not run", device)
	case m.holder(device) == a:
		return nil
	case m.holder(device) != nil:
		return errkind.Errorf(errkind.Precondition, "add %s: it is a member of another array", device)
	}
	if err := m.wipe(device); err != nil {
		return err
	}
	a.Members = append(a.Members, md.Member{Device: device, Slot: -1})
	a.rebuild()
	return m.write(a, len(a.Members)-1)
}

// Remove implements [md.Manager].
func (m *Memory) Remove(_ context.Context, id md.UUID, device string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.find(id)
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.Members, func(d md.Member) bool { return d.Device == device })
	if i < 0 {
		return nil
	}
	if a.Members[i].InSync {
		return errkind.Errorf(errkind.Precondition, "remove %s: it serves data in sync", device)
	}
	a.Members = slices.Delete(a.Members, i, i+1)
	a.rest()
	return nil
}

// Check implements [md.Checker].
func (m *Memory) Check(_ context.Context, id md.UUID) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.find(id)
	switch {
	case a == nil:
		return 0, errkind.Errorf(errkind.NotFound, "check the array: it does not run")
	case a.Action != "idle":
		return 0, errkind.Errorf(errkind.Busy, "check array %q: it is busy: %s", a.Name, a.Action)
	}
	return m.Differ, nil
}

func (m *Memory) find(id md.UUID) *array {
	if i := slices.IndexFunc(m.arrays, func(a *array) bool { return a.UUID == id }); i >= 0 {
		return m.arrays[i]
	}
	return nil
}

// holder returns the array with a member.
func (m *Memory) holder(device string) *array {
	i := slices.IndexFunc(m.arrays, func(a *array) bool {
		return slices.ContainsFunc(a.Members, func(d md.Member) bool { return d.Device == device })
	})
	if i < 0 {
		return nil
	}
	return m.arrays[i]
}

// write writes the superblock of a member.
func (m *Memory) write(a *array, member int) error {
	var roles []int
	for _, d := range a.Members {
		roles = append(roles, d.Slot)
	}
	device := a.Members[member].Device
	if m.ids[device] == 0 {
		if m.ids == nil {
			m.ids = map[string]byte{}
		}
		m.ids[device] = byte(len(m.ids) + 1)
	}
	return m.change(device, func(dev blockdev.Device) error {
		return write(dev, dev.Size(), md.Superblock{
			Array: a.UUID, Device: md.UUID{m.ids[device]}, Name: a.Name, Level: a.Level, Slots: a.Slots,
			Events: a.events, Recovering: !a.Members[member].InSync,
		}, member, roles)
	})
}

func (m *Memory) wipe(device string) error {
	return m.change(device, func(dev blockdev.Device) error {
		_, err := dev.WriteAt(make([]byte, Size), Place(dev.Size()))
		return err
	})
}

func (m *Memory) change(device string, change func(blockdev.Device) error) error {
	dev, err := m.Open(device)
	if err != nil {
		return err
	}
	return errors.Join(change(dev), dev.Sync(), dev.Close())
}
