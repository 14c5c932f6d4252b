package mdtest

import (
	"slices"

	"github.com/trident-project/trident/internal/linux/md"
)

// InSync returns the members that have the data of the array with that name, or that name of the
// kernel; nil if it does not run.
func (m *Memory) InSync(name string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, a := range m.arrays {
		if a.Name != name && a.Kernel != name {
			continue
		}
		for _, d := range a.Members {
			if d.InSync {
				out = append(out, d.Device)
			}
		}
	}
	return out
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
	m.note(a)
}

// note writes the superblocks of the members that serve an array, as the kernel does when
// members come and go.
func (m *Memory) note(a *array) {
	for i, d := range a.Members {
		if !d.Faulty {
			if err := m.write(a, i); err != nil {
				panic(err) // of a device in memory
			}
		}
	}
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
		m.note(a)
	}
}
