package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// apart runs f in a mount namespace of its own, on a thread that ends with it.
func apart(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with its goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A container often has no loop devices, or only the file that makes them, or no /proc.
func TestAHostThatCannotMountImagesSaysWhatItLacks(t *testing.T) {
	image, size := ext4(t)
	hide := func(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }
	control := func() error {
		fd, err := unix.Open("/dev/loop-control", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		kept := fmt.Sprintf("/proc/self/fd/%d", fd)
		return errors.Join(hide("/dev"), os.WriteFile("/dev/loop-control", nil, 0o600), unix.Mount(kept, "/dev/loop-control", "", unix.MS_BIND, ""))
	}
	for name, c := range map[string]struct {
		prepare func() error
		kind    errkind.Kind
		says    string
	}{
		"no loop control": {func() error { return hide("/dev") }, errkind.Unsupported, "get a loop device: open /dev/loop-control"},
		"no loop devices": {control, errkind.Unsupported, "open loop device: open /dev/loop"},
		"another file in the place of loop control": {func() error {
			return errors.Join(hide("/dev"), os.WriteFile("/dev/loop-control", nil, 0o600))
		}, errkind.Unsupported, "get a loop device: inappropriate ioctl"},
		"no right to mount": {func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			return unix.Capset(&header, &none[0])
		}, errkind.Internal, "operation not permitted"},
		"no process files": {func() error { return hide("/proc") }, errkind.Internal, "/proc/self/fd/"},
	} {
		apart(t, func() error {
			if err := c.prepare(); err != nil {
				return err
			}
			m, err := Open(image, 8<<10, size, "ext4")
			if err == nil {
				_ = m.Close()
			}
			if errkind.Of(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		})
	}
}

func TestAFileThatIsNotOpenHasNoLoopDevice(t *testing.T) {
	image, size := ext4(t)
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(image, 8<<10, size, "ext4"); err == nil || !strings.Contains(err.Error(), "set up /dev/loop") {
		t.Errorf("got %v", err)
	}
}
