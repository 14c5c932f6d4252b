package boot_test

import (
	"os"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

var partition = efivar.HardDrive{Number: 1, Start: 2048, Size: 1 << 20, Partition: gpt.GUID{1, 2, 3, 4, 5, 6, 7, 8, 9}}

// machine is a model of a machine with a real loader.
type machine struct {
	boottest.Machine
	kind   boot.Kind
	loader boot.Loader
	host   boot.Host
}

func newMachine(t testing.TB, vars efivar.Store, fallback boot.Fallback) *machine {
	t.Helper()
	return newMachineOf(t, boot.SystemdBoot, vars, fallback)
}

func newMachineOf(t testing.TB, kind boot.Kind, vars efivar.Store, fallback boot.Fallback) *machine {
	t.Helper()
	m := &machine{
		kind:    kind,
		Machine: boottest.Machine{ESP: folder(t), Vars: vars, Partition: partition.Partition, Arch: boot.AMD64},
	}
	m.host = boot.Host{ESP: m.ESP, Members: []efivar.HardDrive{partition}, Vars: vars, Arch: boot.AMD64, Fallback: fallback}
	m.set(t, m.host)
	return m
}

// folder is in memory if it can be: what is tested is not the speed of a disk.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "trident-boot-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (m *machine) set(t testing.TB, h boot.Host) {
	t.Helper()
	l, err := boot.New(m.kind, h)
	if err != nil {
		t.Fatal(err)
	}
	m.loader = l
}

// world is m for the suite.
func (m *machine) world() boottest.World {
	fill := func(full bool) {
		free := int64(1 << 30)
		if full {
			free = 1 << 20
		}
		boot.SetSpace(m.loader, free)
	}
	return boottest.World{Loader: m.loader, Boot: m.Boot, Fill: fill}
}

func grubName(s slot.Slot) string {
	return map[slot.Slot]string{slot.A: "EFI/AZLA/grub.cfg", slot.B: "EFI/AZLB/grub.cfg"}[s]
}

func TestAllLoadersPassTheSuite(t *testing.T) {
	t.Parallel()
	real := func(vars func(*testing.T) efivar.Store, fallback boot.Fallback) func(*testing.T) boottest.World {
		return func(t *testing.T) boottest.World {
			return newMachine(t, vars(t), fallback).world()
		}
	}
	grub := func(vars func(*testing.T) efivar.Store, fallback boot.Fallback, forgets bool) func(*testing.T) boottest.World {
		return func(t *testing.T) boottest.World {
			m := newMachineOf(t, boot.Grub, vars(t), fallback)
			m.Forgets = forgets
			w := m.world()
			w.Payload, w.SlotName = boottest.GrubPayload, grubName
			return w
		}
	}
	memory := func(*testing.T) efivar.Store { return &efivartest.Fake{} }
	dir := func(t *testing.T) efivar.Store { return efivar.Dir(t.TempDir()) }
	for name, start := range map[string]func(*testing.T) boottest.World{
		"in memory": func(*testing.T) boottest.World {
			f := &boottest.Fake{}
			return boottest.World{Loader: f, Boot: f.Boot, Fill: func(full bool) { f.Full = full }}
		},
		"systemd-boot":                        real(memory, boot.Conservative),
		"systemd-boot, optimistic":            real(memory, boot.Optimistic),
		"systemd-boot, no fallback":           real(memory, boot.Disabled),
		"systemd-boot, variables in a folder": real(dir, boot.Conservative),
		"GRUB":                                grub(memory, boot.Conservative, false),
		"GRUB, optimistic":                    grub(memory, boot.Optimistic, false),
		"GRUB, no fallback":                   grub(memory, boot.Disabled, false),
		"GRUB, variables in a folder":         grub(dir, boot.Conservative, false),
		"GRUB, a firmware that forgets":       grub(memory, boot.Conservative, true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			boottest.Suite(t, start)
		})
	}
}
