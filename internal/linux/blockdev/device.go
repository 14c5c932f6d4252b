// Package blockdev lists the block devices of a host with their content and their uses
// (Read), and reads and writes one (Device).
//
// The package reads the content of a disk from the disk itself: tables with package gpt,
// file systems by their magic numbers. It does not parse the output of lsblk or blkid, which
// is for people, and does not read udev's database, which may be older than the disk. The
// kernel says what a disk is used for, but a writer must not rely on that: it opens the
// disk exclusively, which the kernel refuses while the disk is mounted in any namespace.
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
	// Sync makes all writes durable. Later reads come from the medium.
	Sync() error
	// Discard tells the device that these bytes are not needed. They may read as
	// anything afterwards. Discard returns nil if the device does not support it.
	Discard(offset, length int64) error
	// Reread makes the kernel read the partition table again. A partition that does
	// not change stays, even if it is in use. Reread fails, with errkind.Precondition, if
	// a partition that changes is in use.
	Reread(ctx context.Context) error
	Close() error
}

// file is a block device, or a regular file in its place.
type file struct {
	f            *os.File
	direct       *direct // nil: everything goes through the page cache
	size, sector int64
	block        bool
}

// Open opens a block device, or a regular file as one with sectors of 512 bytes. With
// exclusive it fails, with errkind.Precondition, while the device or a partition of it
// is mounted, swapped to, or below another device, and the kernel refuses all of these
// until Close. Exclusive has no effect on a regular file.
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
		return nil, errkind.Errorf(errkind.Precondition, "open %s: the device is in use: mounted, swapped to, or below another device", path)
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
		return nil, errkind.Errorf(errkind.Invalid, "the file is not a block device")
	}
	d.block = true
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return nil, fmt.Errorf("read the sector size: %w", err)
	}
	d.sector = int64(sector)
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&d.size)); err != nil {
		return nil, fmt.Errorf("read the size: %w", err)
	}
	// udev does not probe a device that is locked (systemd's BLOCK_DEVICE_LOCKING). The
	// lock fails while udev probes the device, which does no harm.
	_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	d.direct = openDirect(f, d.sector)
	return d, nil
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func (d *file) Size() int64       { return d.size }
func (d *file) SectorSize() int64 { return d.sector }
func (d *file) Close() error      { return errors.Join(d.direct.close(), d.f.Close()) }

func (d *file) ReadAt(p []byte, off int64) (int, error) {
	return d.direct.fileFor(d.f, p, off).ReadAt(p, off)
}

func (d *file) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d of %s: the device ends at %d", len(p), off, d.f.Name(), d.size)
	}
	return d.direct.fileFor(d.f, p, off).WriteAt(p, off)
}

func (d *file) Sync() error {
	if err := d.f.Sync(); err != nil {
		return err
	}
	// Drop the clean pages, so that the next read is from the disk.
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
