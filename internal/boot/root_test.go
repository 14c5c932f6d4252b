//go:build root

package boot_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/slot"
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

func TestWhatIsDoneOnARealESPIsOnDisk(t *testing.T) {
	m := newMachine(t, &efivartest.Fake{}, boot.Conservative)
	m.ESP = vfat(t)
	m.host.ESP = m.ESP
	m.set(t, m.host)
	payload := boottest.Payload(t, "6.1.0")
	for _, c := range []struct {
		name string
		do   func(context.Context, slot.Slot) error
	}{
		{"stage", func(ctx context.Context, s slot.Slot) error { return m.loader.Stage(ctx, s, payload) }},
		{"try", m.loader.Try},
		{"keep", m.loader.Keep},
	} {
		if err := c.do(t.Context(), slot.A); err != nil {
			t.Fatal(c.name, err)
		}
		if diff := cmp.Diff(files(t, m.ESP), files(t, afterCut(t, m.ESP))); diff != "" {
			t.Errorf("%s: a power cut loses -has +would have\n%s", c.name, diff)
		}
	}
}

// afterCut mounts what is of an ESP on its disk, without what the kernel has yet to
// write.
func afterCut(t *testing.T, esp string) string {
	t.Helper()
	dir := t.TempDir()
	image, at := filepath.Join(dir, "esp.img"), filepath.Join(dir, "esp")
	must(t, "cp", filepath.Join(filepath.Dir(esp), "esp.img"), image)
	mountESP(t, image, at, "loop,ro")
	return at
}

// files are the sizes and digests of the files of a tree.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%d bytes, %x", len(data), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// vfat mounts a new FAT of 32 MiB.
func vfat(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, at := filepath.Join(dir, "esp.img"), filepath.Join(dir, "esp")
	must(t, "truncate", "--size=32M", image)
	must(t, "mkfs.vfat", image)
	mountESP(t, image, at, "loop")
	return at
}

func mountESP(t *testing.T, image, at, options string) {
	t.Helper()
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "-o", options, "-t", "vfat", image, at)
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
}

func must(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	switch {
	case err != nil && strings.Contains(string(out), "unknown filesystem type"):
		t.Skip("this kernel has no vfat")
	case err != nil:
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
