package machine

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// A verified file system keeps all of its bytes while it is mounted, even if its journal
// asks for a replay.
func TestAVerifiedFileSystemKeepsItsBytes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	file, at := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^metadata_csum", file, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const needsRecovery = 1024 + 0x60 // s_feature_incompat, whose bit 2 is needs_recovery
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before[needsRecovery] |= 4
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skip("needs loop devices: ", string(out))
	}
	device := strings.TrimSpace(string(out))
	m := Real("/", "amd64")
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "--detach", device).CombinedOutput()
		if err := errors.Join(m.Mounts.Unmount(at), err); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	if err := m.MountVerified(at, "/", device, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a write: %v", err)
	}
	if err := m.Mounts.Unmount(at); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the bytes have changed, %v", err)
	}
}

// A file system that the host has mounted read-only, as it may have one that both slots share,
// is mounted read-only in the tree.
func TestAFileSystemThatIsReadOnlyOnTheHostIsReadOnlyInTheTree(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	file, at, tree := filepath.Join(t.TempDir(), "image"), t.TempDir(), t.TempDir()
	if out, err := exec.Command("mkfs.ext4", "-q", file, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skip("needs loop devices: ", string(out))
	}
	device := strings.TrimSpace(string(out))
	m := Real("/", "amd64")
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "--detach", device).CombinedOutput()
		if err := errors.Join(m.Mounts.Unmount(tree), m.Mounts.Unmount(at), err); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	on, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Mounts.Mount(mount.FileSystem{Source: device, Type: "ext4", ReadOnly: true}, on), on.Close()); err != nil {
		t.Fatal(err)
	}
	if err := m.MountIn(tree, "/srv/common", device, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "srv/common/x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a write: %v", err)
	}
}
