//go:build root

package efivar_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
)

// mounted returns a folder with a tmpfs that stands for efivarfs.
func mounted(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestVariablesThatAreReadOnlySaySo(t *testing.T) {
	dir := mounted(t, "")
	d := efivar.Dir(dir)
	if err := efivar.SetBootNext(d, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, _, room := d.Room()
	for verb, err := range map[string]error{"set": efivar.SetBootNext(d, 2), "delete": efivar.ClearBootNext(d), "room": room} {
		if !errors.Is(err, syscall.EROFS) || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if n, ok, err := efivar.BootNext(d); n != 1 || !ok || err != nil {
		t.Errorf("BootNext is %v, %v, %v", n, ok, err)
	}
}

func TestAFullFirmwareSaysSoAndHasNoHalfVariable(t *testing.T) {
	dir := mounted(t, "size=4k")
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	d := efivar.Dir(dir)
	if err := efivar.SetBootNext(d, 1); !errors.Is(err, syscall.ENOSPC) || errkind.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if names, err := d.List(); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
}

// The kernel makes most variables immutable.
func TestAnImmutableVariableIsChangedAndStaysImmutable(t *testing.T) {
	dir := t.TempDir()
	d := efivar.Dir(dir)
	if err := efivar.SetBootNext(d, 1); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "BootNext-"+string(efivar.Global))
	const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	flags := func(change func(int) int) (int, error) {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		now, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil && change(now) != now {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, change(now))
		}
		return now, err
	}
	if _, err := flags(func(f int) int { return f | immutable }); err != nil {
		t.Skip("the file system of temporary files has no such flag: ", err)
	}
	t.Cleanup(func() { _, _ = flags(func(f int) int { return f &^ immutable }) })
	if err := efivar.SetBootNext(d, 2); err != nil {
		t.Fatal(err)
	}
	if n, _, err := efivar.BootNext(d); n != 2 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	if now, err := flags(func(f int) int { return f }); err != nil || now&immutable == 0 {
		t.Errorf("flags %x, %v", now, err)
	}
	if err := efivar.ClearBootNext(d); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := efivar.BootNext(d); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
