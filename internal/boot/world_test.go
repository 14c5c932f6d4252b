package boot_test

import (
	"os"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
)

var partition = efivar.HardDrive{Number: 1, Start: 2048, Size: 1 << 20, Partition: gpt.GUID{1, 2, 3, 4, 5, 6, 7, 8, 9}}

// machine is a model of a machine with a real loader.
type machine struct {
	boottest.Machine
	loader boot.Loader
	host   boot.Host
}

func newMachine(t testing.TB, vars efivar.Store, fallback boot.Fallback) *machine {
	t.Helper()
	m := &machine{
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
	l, err := boot.New(boot.SystemdBoot, h)
	if err != nil {
		t.Fatal(err)
	}
	m.loader = l
}

func TestAllLoadersPassTheSuite(t *testing.T) {
	t.Parallel()
	real := func(vars func(*testing.T) efivar.Store, fallback boot.Fallback) func(*testing.T) boottest.World {
		return func(t *testing.T) boottest.World {
			m := newMachine(t, vars(t), fallback)
			fill := func(full bool) {
				free := int64(1 << 30)
				if full {
					free = 1 << 20
				}
				boot.SetSpace(m.loader, free)
			}
			return boottest.World{Loader: m.loader, Boot: m.Boot, Fill: fill}
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			boottest.Suite(t, start)
		})
	}
}
