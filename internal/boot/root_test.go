//go:build root

package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
)

func TestARealESPPassesTheSuite(t *testing.T) {
	boottest.Suite(t, func(t *testing.T) boottest.World {
		m := newMachine(t, &efivartest.Fake{}, boot.Conservative)
		m.ESP = vfat(t)
		m.host.ESP = m.ESP
		m.set(t, m.host)
		ballast := filepath.Join(m.ESP, "ballast")
		fill := func(full bool) {
			err := os.RemoveAll(ballast)
			if full {
				err = os.WriteFile(ballast, make([]byte, 31<<20), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return boottest.World{Loader: m.loader, Boot: m.Boot, Fill: fill}
	})
}

// vfat mounts a new FAT of 32 MiB.
func vfat(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, at := filepath.Join(dir, "esp.img"), filepath.Join(dir, "esp")
	must := func(name string, args ...string) {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		switch {
		case err != nil && strings.Contains(string(out), "unknown filesystem type"):
			t.Skip("this kernel has no vfat")
		case err != nil:
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	must("truncate", "--size=32M", image)
	must("mkfs.vfat", image)
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	must("mount", "-o", "loop", "-t", "vfat", image, at)
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return at
}
