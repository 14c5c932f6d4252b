// Package blockdev is the block devices of a host: what is there and what it is
// used for (Read), and reading and writing one (Device).
//
// What is on a disk is read from the disk itself: tables by package gpt, file
// systems by their first bytes. Asking lsblk or blkid would mean to parse what
// they print for people, and udev's database may be older than the disk. What a
// disk is used for is read from the kernel, and then not relied upon: whoever
// writes opens it exclusively, which the kernel refuses while anybody, in
// whatever namespace, has it mounted.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Device is a block device that is open for writing.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Size and SectorSize are in bytes. Writes need not be whole sectors.
	Size() int64
	SectorSize() int64
	// Sync returns when what was written would survive a power cut, and has
	// what is read afterwards come from the medium.
	Sync() error
	// Discard tells the device that nobody needs these bytes any more. They may
	// read as anything afterwards. A device that cannot is no error.
	Discard(offset, length int64) error
	// Reread has the kernel take up the partition table that was written.
	// Partitions that are the same before and after stay as they are, even in
	// use; any other that is in use is an error of kind Precondition.
	Reread(ctx context.Context) error
	Close() error
}

// file is a block device, or a regular file that stands for one.
type file struct {
	f            *os.File
	size, sector int64
	block        bool
}

// Open opens a block device, or a regular file as one with sectors of 512
// bytes. Exclusive fails with kind Precondition while the device, or a partition of it,
// is mounted, swapped to, or below another device, and keeps others from doing
// so; it says nothing of a regular file.
func Open(path string, exclusive bool) (Device, error) {
	flags := os.O_RDWR | unix.O_NONBLOCK
	if exclusive {
		if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeDevice != 0 {
			flags |= os.O_EXCL
		}
	}
	f, err := os.OpenFile(path, flags, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, errkind.Errorf(errkind.Precondition, "open %s: it is in use: mounted, swapped to, or below another device", path)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOMEDIUM):
		return nil, errkind.With(errkind.NotFound, err)
	case err != nil:
		return nil, err
	}
	d, err := newFile(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	return d, nil
}

func newFile(f *os.File) (*file, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d := &file{f: f, size: info.Size(), sector: 512}
	switch {
	case info.Mode().IsRegular():
		return d, nil
	case info.Mode()&fs.ModeDevice == 0 || info.Mode()&fs.ModeCharDevice != 0:
		return nil, errkind.Errorf(errkind.Invalid, "it is no block device")
	}
	d.block = true
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return nil, fmt.Errorf("ask for the sector size: %w", err)
	}
	d.sector = int64(sector)
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&d.size)); err != nil {
		return nil, fmt.Errorf("ask for the size: %w", err)
	}
	// udev holds a shared lock while it looks at a device, and leaves one alone
	// that is locked (systemd's BLOCK_DEVICE_LOCKING). That it is quicker now and
	// then does no harm.
	_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return d, nil
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func (d *file) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }
func (d *file) Size() int64                             { return d.size }
func (d *file) SectorSize() int64                       { return d.sector }
func (d *file) Close() error                            { return d.f.Close() }

func (d *file) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d of %s: it ends at %d", len(p), off, d.f.Name(), d.size)
	}
	return d.f.WriteAt(p, off)
}

func (d *file) Sync() error {
	if err := d.f.Sync(); err != nil {
		return err
	}
	// Clean pages go, so that what is read next is read from the disk.
	return unix.Fadvise(int(d.f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func (d *file) Discard(offset, length int64) error {
	if length <= 0 {
		return nil
	}
	var err error
	if d.block {
		span := [2]uint64{uint64(offset), uint64(length)}
		err = ioctl(d.f, unix.BLKDISCARD, unsafe.Pointer(&span))
	} else {
		err = unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return err
}
