//go:build root

package unmerged

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func mountAt(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(source, target, fstype, flags, data); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// merge mounts layers over a hierarchy as systemd does: first a layer with the
// mark of merged extensions.
func merge(t *testing.T, hierarchy, source, mark string, layers ...string) {
	t.Helper()
	meta := t.TempDir()
	write(t, filepath.Join(meta, mark, "extensions"), "evil\n")
	lower := strings.Join(append(append([]string{meta}, layers...), hierarchy), ":")
	mountAt(t, source, hierarchy, "overlay", syscall.MS_RDONLY|syscall.MS_NODEV, "lowerdir="+lower)
}

func wantFile(t *testing.T, tree *Tree, name, want string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tree.Path(), name))
	if want == "" && errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil || string(data) != want {
		t.Errorf("%s: %q, %v; want %q", name, data, err, want)
	}
}

// A layer of another vendor adds a certificate, replaces base.json, and hides a
// file; none of that is seen below the extensions, whether /usr is a folder of the
// root file system or a mount of its own, and however many overlays are stacked.
func TestTheTreeBelowTheExtensionsIsSeen(t *testing.T) {
	for _, c := range []struct {
		name     string
		separate bool
		stacked  int
	}{{"a folder of the root", false, 1}, {"a mount of its own", true, 1}, {"stacked overlays", true, 2}} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			usr, etc := filepath.Join(root, "usr"), filepath.Join(root, "etc")
			if c.separate {
				mountAt(t, "tmpfs", usr, "tmpfs", 0, "")
			}
			for _, name := range []string{"base.json", "trust.d/ours.crt", "hidden"} {
				write(t, filepath.Join(usr, "lib/trident", name), "ours")
			}
			write(t, filepath.Join(etc, "trident/trust.d/admin.crt"), "ours")
			first, second, conf := t.TempDir(), t.TempDir(), t.TempDir()
			write(t, filepath.Join(first, "lib/trident/base.json"), "evil")
			write(t, filepath.Join(second, "lib/trident/trust.d/evil.crt"), "evil")
			write(t, filepath.Join(conf, "trident/trust.d/evil.crt"), "evil")
			if err := syscall.Mknod(filepath.Join(first, "lib/trident/hidden"), syscall.S_IFCHR, 0); err != nil {
				t.Fatal(err)
			}
			for range c.stacked {
				merge(t, usr, "sysext", ".systemd-sysext", first, second)
			}
			merge(t, etc, "overlay", ".systemd-confext", conf)
			before := mounts(t, root)
			tree, err := Open(root)
			if err != nil {
				t.Fatal(err)
			}
			host := &Tree{path: root}
			wantFile(t, host, "usr/lib/trident/base.json", "evil") // else this test shows nothing
			wantFile(t, host, "usr/lib/trident/trust.d/evil.crt", "evil")
			wantFile(t, host, "usr/lib/trident/hidden", "")
			wantFile(t, host, "etc/trident/trust.d/evil.crt", "evil")
			for name, want := range map[string]string{
				"usr/lib/trident/base.json": "ours", "usr/lib/trident/trust.d/ours.crt": "ours", "usr/lib/trident/trust.d/evil.crt": "",
				"usr/lib/trident/hidden": "ours", "etc/trident/trust.d/admin.crt": "ours", "etc/trident/trust.d/evil.crt": "",
			} {
				wantFile(t, tree, name, want)
			}
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
			if after := mounts(t, root); after != before {
				t.Errorf("the host's mounts changed from\n%s to\n%s", before, after)
			}
		})
	}
}

// An overlay that is the OS's own is not taken for extensions.
func TestAnOverlayOfTheSystemItselfStays(t *testing.T) {
	root, lower := t.TempDir(), t.TempDir()
	usr := filepath.Join(root, "usr")
	write(t, filepath.Join(usr, "lib/x"), "below")
	write(t, filepath.Join(lower, "lib/x"), "composed")
	mountAt(t, "composefs", usr, "overlay", syscall.MS_RDONLY, "lowerdir="+lower+":"+usr)
	layer := t.TempDir()
	write(t, filepath.Join(layer, "lib/x"), "evil")
	merge(t, usr, "sysext", ".systemd-sysext", layer)
	tree, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, tree, "usr/lib/x", "composed")
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpeningMayGoOnManyTimes(t *testing.T) {
	root := t.TempDir()
	usr := filepath.Join(root, "usr")
	write(t, filepath.Join(usr, "x"), "below")
	layer := t.TempDir()
	write(t, filepath.Join(layer, "x"), "evil")
	merge(t, usr, "sysext", ".systemd-sysext", layer)
	self, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		tree, err := Open(root)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, tree, "usr/x", "below")
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.Readlink("/proc/self/ns/mnt"); err != nil || now != self {
		t.Errorf("the process is in the mount namespace %s (%v), was in %s", now, err, self)
	}
}

// mounts lists those below a folder: others mount and unmount meanwhile.
func mounts(t *testing.T, below string) (list string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, below) {
			list += line
		}
	}
	return list
}
