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
	// HalfMade, if not 0, is how many members Create has written when the power fails.
	HalfMade int

	mu     sync.Mutex
	arrays []*array
	next   byte // of the UUIDs of members
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
	defer m.mu.Unlock()
	for _, d := range a.Members {
		if other := m.holder(d); other != nil {
			return errkind.Errorf(errkind.Precondition, "create array %q: %s is a member of %q", a.Name, d, other.Name)
		}
		if err := m.wipe(d); err != nil {
			return err
		}
	}
	made := &array{State: md.State{Kernel: fmt.Sprintf("md%d", 127-len(m.arrays)), UUID: a.UUID, Name: a.Name, Level: a.Level, Slots: len(a.Members), Action: "idle"}, events: 1}
	for i, d := range a.Members {
		made.Members = append(made.Members, md.Member{Device: d, Slot: i, InSync: true})
	}
	for i := range a.Members {
		if m.HalfMade > 0 && i == m.HalfMade {
			m.HalfMade = 0
			return ErrCut
		}
		if err := m.write(made, i); err != nil {
			return err
		}
	}
	m.arrays = append(m.arrays, made)
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

// rebuild gives a spare to each free slot.
func (a *array) rebuild() {
	for slot := range a.Slots {
		if slices.ContainsFunc(a.Members, func(d md.Member) bool { return d.Slot == slot }) {
			continue
		}
		if i := slices.IndexFunc(a.Members, func(d md.Member) bool { return d.Slot < 0 && !d.Faulty }); i >= 0 {
			a.Members[i].Slot = slot
			a.Action, a.Done, a.Total = "recover", 0, 1<<20
		}
	}
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

// Fail makes a member faulty.
func (m *Memory) Fail(device string) { m.drop(device, false) }

// Lose removes a member from its array, as when its disk has gone before the array started.
func (m *Memory) Lose(device string) { m.drop(device, true) }

func (m *Memory) drop(device string, gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.holder(device)
	if a == nil {
		return
	}
	i := slices.IndexFunc(a.Members, func(d md.Member) bool { return d.Device == device })
	a.Members[i] = md.Member{Device: device, Slot: -1, Faulty: true}
	if gone {
		a.Members = slices.Delete(a.Members, i, i+1)
	}
	a.events++
	a.rest()
	a.rebuild()
}

// rest ends a recovery without members to recover.
func (a *array) rest() {
	if !slices.ContainsFunc(a.Members, func(d md.Member) bool { return d.Slot >= 0 && !d.InSync }) {
		a.Action, a.Done, a.Total = "idle", 0, 0
	}
}

// Advance copies half of the rest to the members that are not in sync.
func (m *Memory) Advance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arrays {
		a.Done += (a.Total - a.Done) / 2
	}
}

// Sync has all members get in sync.
func (m *Memory) Sync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arrays {
		for i := range a.Members {
			if a.Members[i].Slot >= 0 {
				a.Members[i].InSync = true
			}
		}
		a.rest()
	}
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
	m.next++
	return m.change(a.Members[member].Device, func(dev blockdev.Device) error {
		return write(dev, dev.Size(), md.Superblock{
			Array: a.UUID, Device: md.UUID{m.next}, Name: a.Name, Level: a.Level, Slots: a.Slots,
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
