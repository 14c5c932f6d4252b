package machine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/mount"
)

// The real kernel writes what changes in /etc to the folder of changes, and shows it again
// at the next mount; the file system below stays as it is.
func TestAnOverlayKeepsChangesInItsOwnFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	m, at := Machine{Mounts: mount.Host{}}, t.TempDir()
	t.Cleanup(func() {
		if err := m.Mounts.Unmount(at); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	on, err := os.Open(at)
	must(err)
	must(errors.Join(m.Mounts.Mount(mount.FileSystem{Source: "tmpfs", Type: "tmpfs"}, on), on.Close()))
	hosttest.Write(t, filepath.Join(at, "etc/fstab"), "old")
	hosttest.Write(t, filepath.Join(at, "etc/passwd"), "users")
	overlay := func() {
		t.Helper()
		err := m.MountOverlay(at, "/etc", "/var/lib/trident-overlay/etc", true)
		if errkind.Of(err) == errkind.Unsupported {
			t.Skip(err)
		}
		must(err)
	}
	overlay()
	hosttest.Write(t, filepath.Join(at, "etc/fstab"), "new")
	must(os.Remove(filepath.Join(at, "etc/passwd")))
	must(m.Mounts.Unmount(filepath.Join(at, "etc")))
	if got := hosttest.Text(t, filepath.Join(at, "etc/fstab")) + hosttest.Text(t, filepath.Join(at, "etc/passwd")); got != "oldusers" {
		t.Errorf("the files below have become %q", got)
	}
	if got := hosttest.Text(t, filepath.Join(at, "var/lib/trident-overlay/etc/upper/fstab")); got != "new" {
		t.Errorf("the change is %q", got)
	}
	overlay()
	if got := hosttest.Text(t, filepath.Join(at, "etc/fstab")) + hosttest.Text(t, filepath.Join(at, "etc/passwd")); got != "new" {
		t.Errorf("mounted again, the files are %q", got)
	}
}

func TestAReadOnlyMountCannotBeChanged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	at := t.TempDir()
	on, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(mount.Host{}.Mount(mount.FileSystem{Source: "tmpfs", Type: "tmpfs", ReadOnly: true}, on), on.Close())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (mount.Host{}).Unmount(at); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(at, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a write: %v", err)
	}
	if err := (Machine{Mounts: mount.Host{}}).MountIn(at, "/missing", "", true); errkind.Of(err) != errkind.Precondition || !errors.Is(err, unix.EROFS) {
		t.Errorf("a mount on a folder that is missing: %v", err)
	}
}
