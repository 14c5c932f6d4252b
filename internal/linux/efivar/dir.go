package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// DefaultDir is where systemd mounts efivarfs.
const DefaultDir = "/sys/firmware/efi/efivars"

// flagImmutable is FS_IMMUTABLE_FL of linux/fs.h.
const flagImmutable = 0x10

// Dir is the folder where efivarfs is mounted. It has a file for each variable: four
// bytes of attributes, little-endian, then the data (Linux,
// Documentation/filesystems/efivarfs.rst).
type Dir string

var _ Store = Dir("")

// Open returns dir if efivarfs is mounted there and has variables. It fails, with
// errkind.Precondition, if the host has not booted by UEFI, or if the firmware gives no
// access to its variables.
func Open(dir string) (Dir, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if err == nil && st.Type != unix.EFIVARFS_MAGIC {
		err = errors.New("no efivarfs is mounted there")
	}
	if err == nil {
		var names []Name
		if names, err = Dir(dir).List(); err == nil && len(names) > 0 {
			return Dir(dir), nil
		}
		if err == nil {
			err = errors.New("the firmware shows no variables") // every UEFI firmware has some (UEFI 2.10, 3.3)
		}
	}
	return "", errkind.WithHint(errkind.Errorf(errkind.Precondition, "open EFI variables in %s: %w", dir, err),
		"boot the host by UEFI; in a container, give it the efivarfs of the host")
}

func (d Dir) file(n Name) string { return filepath.Join(string(d), n.String()) }

// Get implements [Store].
func (d Dir) Get(n Name) (Variable, error) {
	if err := n.check(); err != nil {
		return Variable{}, err
	}
	f, err := os.OpenFile(d.file(n), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Variable{}, NotThere(n)
	}
	if err != nil {
		return Variable{}, failed("get", n, err)
	}
	defer f.Close()
	// One read, because the kernel calls the firmware for each.
	buf := make([]byte, 4+MaxData+1)
	size, err := read(f, buf)
	switch {
	case err != nil:
		return Variable{}, failed("get", n, err)
	case size == 0: // the file exists, but its variable does not
		return Variable{}, NotThere(n)
	case size <= 4:
		return Variable{}, errkind.Errorf(errkind.Corrupt, "get EFI variable %s: it has no data", n)
	case size > 4+MaxData:
		return Variable{}, errkind.Errorf(errkind.TooLarge, "get EFI variable %s: it has more than %d bytes", n, MaxData)
	}
	return Variable{Attributes(binary.LittleEndian.Uint32(buf)), slices.Clone(buf[4:size])}, nil
}

func read(f *os.File, buf []byte) (int, error) {
	n, err := f.Read(buf)
	if errors.Is(err, io.EOF) {
		return 0, nil
	}
	return n, err
}

// Set implements [Store].
func (d Dir) Set(n Name, v Variable) error {
	if err := n.Check(v); err != nil {
		return err
	}
	old, err := d.Get(n)
	if err == nil && old.Attributes == v.Attributes && slices.Equal(old.Data, v.Data) {
		return nil
	}
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := d.mutable(n, func() error { return d.write(n, v) }); err != nil {
		if isNew { // else the kernel shows an empty variable until the next boot
			err = errors.Join(err, ignoreMissing(os.Remove(d.file(n))))
		}
		return hint(failed("set", n, err))
	}
	return nil
}

// write writes the variable with one call of write(2), so that it is old or new at any
// moment. O_TRUNC would be a second change.
func (d Dir) write(n Name, v Variable) error {
	f, err := os.OpenFile(d.file(n), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	data := append(binary.LittleEndian.AppendUint32(nil, uint32(v.Attributes)), v.Data...)
	_, err = f.Write(data)
	if info, statErr := f.Stat(); err == nil && statErr == nil && info.Size() > int64(len(data)) {
		err = f.Truncate(int64(len(data))) // an ordinary folder in the place of efivarfs
	}
	return errors.Join(err, f.Close())
}

// Delete implements [Store].
func (d Dir) Delete(n Name) error {
	if err := n.check(); err != nil {
		return err
	}
	err := d.mutable(n, func() error { return ignoreMissing(os.Remove(d.file(n))) })
	if err != nil {
		return hint(failed("delete", n, err))
	}
	return nil
}

// mutable calls change while the variable's file is not immutable, and then restores the
// flag if the file still exists. The kernel makes most variables immutable, because some
// firmware does not start without them.
func (d Dir) mutable(n Name, change func() error) error {
	f, err := os.OpenFile(d.file(n), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return change()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&flagImmutable == 0 {
		return change() // an error: the file system has no such flags
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^flagImmutable); err != nil {
		return err
	}
	err = change()
	if _, statErr := os.Lstat(d.file(n)); statErr == nil {
		err = errors.Join(err, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
	}
	return err
}

// List implements [Store].
func (d Dir) List() ([]Name, error) {
	f, err := os.Open(string(d))
	if err != nil {
		return nil, fmt.Errorf("list EFI variables: %w", err)
	}
	defer f.Close()
	files, err := f.Readdirnames(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list EFI variables: %w", err)
	}
	if len(files) > maxNames {
		return nil, errkind.Errorf(errkind.TooLarge, "list EFI variables: there are more than %d", maxNames)
	}
	var names []Name
	for _, file := range files {
		if n, err := ParseName(file); err == nil {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}

// Room implements [Store]. Kernels before 6.6 do not report it. The reserve that the
// kernel keeps on x86, where full memory has ruined machines, is not free (Linux,
// fs/efivarfs/super.c).
func (d Dir) Room() (bytes int64, known bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, false, fmt.Errorf("read the room for EFI variables: %w", err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		err := errkind.Errorf(errkind.Precondition, "the EFI variables in %s cannot be set: %w", string(d), unix.EROFS)
		return 0, false, hint(err)
	}
	if st.Type != unix.EFIVARFS_MAGIC || st.Bsize != 1 || st.Blocks == 0 {
		return 0, false, nil
	}
	return int64(st.Bavail), true, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func hint(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return errkind.WithHint(err, "the firmware's memory is full: delete boot entries that nobody needs")
	case errors.Is(err, syscall.EROFS):
		return errkind.WithHint(err, "mount efivarfs for writing")
	}
	return err
}
