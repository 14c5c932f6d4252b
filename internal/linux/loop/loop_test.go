package loop

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// ext4 makes an image with a file in it that lies behind 8 KiB of something else.
func ext4(t *testing.T) (*os.File, int64) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("needs loop devices: ", err)
	}
	tool, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("needs mkfs.ext4")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree/usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree/usr/a"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "tree/usr/out")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-q", "-d", filepath.Join(dir, "tree"), filepath.Join(dir, "fs"), "4M").CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "fs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image"), append(make([]byte, 8<<10), data...), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, int64(len(data))
}

func TestAFileSystemInAPartOfAFileCanBeRead(t *testing.T) {
	image, size := ext4(t)
	m, err := Open(image, 8<<10, size, "ext4")
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(m, "usr/a"); string(data) != "hello" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if data, err := fs.ReadFile(m, "usr/out"); err == nil {
		t.Errorf("a link leads out: %d bytes", len(data))
	}
	if info, err := fs.Lstat(m, "usr/out"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("a link is not seen as one: %v, %v", info, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// As systemd-udevd does, another process opens the loop device of a mount, and closes it only
// after the mount has ended.
func TestTheFileSystemOfAnImageCanBeUnmountedOnceItsMountIsClosed(t *testing.T) {
	made, size := ext4(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	unmounted := false
	t.Cleanup(func() {
		if !unmounted {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(image, io.NewSectionReader(made, 8<<10, size)); err != nil {
		t.Fatal(err)
	}
	m, err := Open(image, 0, size, "ext4")
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	prober, err := os.Open(filepath.Join("/dev", filepath.Base(filepath.Dir(filepath.Dir(m.backing)))))
	if err != nil {
		t.Fatal(err)
	}
	probed := time.AfterFunc(50*time.Millisecond, func() { _ = prober.Close() })
	defer probed.Stop()
	if err := errors.Join(m.Close(), image.Close()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatalf("unmount the file system with the image: %v", err)
	}
	unmounted = true
}

func TestAFileSystemThatTheKernelCannotMountIsCorrupt(t *testing.T) {
	image, size := ext4(t)
	if m, err := Open(image, 0, size, "ext4"); errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Unsupported {
		t.Errorf("got %v, %v", m, err)
	}
	if m, err := Open(image, 0, size, "nosuchfs"); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestTheReasonOfTheKernelIsInTheError(t *testing.T) {
	ext4(t) // or the test is skipped
	tool, err := exec.LookPath("mksquashfs")
	if err != nil {
		t.Skip("needs mksquashfs")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "fs")
	if out, err := exec.Command(tool, t.TempDir(), path, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v: %s", err, out)
	}
	image, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	const compression = 20 // in the superblock
	if _, err := image.WriteAt([]byte{99}, compression); err != nil {
		t.Fatal(err)
	}
	m, err := Open(image, 0, 4096, "squashfs")
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), `Filesystem uses \"unknown\" compression`) {
		t.Errorf("%v, %v", m, err)
	}
}

func TestAMountHasAPathForThisProcessUntilItIsClosed(t *testing.T) {
	image, size := ext4(t)
	m, err := Open(image, 8<<10, size, "ext4")
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := m.Path()
	if data, err := os.ReadFile(filepath.Join(path, "usr/a")); string(data) != "hello" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(path, "usr/b"), nil, 0o644); err == nil {
		t.Error("the mount is writable")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "usr/a")); err == nil {
		t.Error("the path outlives the mount")
	}
}

func TestAnImageThatIsClosedOrADeviceThatIsGoneIsNotMounted(t *testing.T) {
	image, size := ext4(t)
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(image, 0, size, "ext4"); err == nil || !strings.Contains(err.Error(), "mount ext4 image: set up /dev/loop") {
		t.Errorf("got %v, %v", m, err)
	}
	if f, err := mount("/dev/none", "ext4"); errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Unsupported {
		t.Errorf("got %v, %v", f, err)
	}
}
