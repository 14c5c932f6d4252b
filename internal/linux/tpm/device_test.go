package tpm

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A FIFO can be polled, as the device of the TPM can.
func TestReadsOfTheDeviceWait(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "device")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openDevice(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	if failed := conn.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if flags&unix.O_NONBLOCK != 0 {
		t.Errorf("reads return at once: flags 0x%x", flags)
	}
	if _, err := openDevice(name + "-missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that is missing: %v", err)
	}
}
