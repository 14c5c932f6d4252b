// Package loop mounts the file system in an image with the kernel, for file systems that
// Trident has no reader for.
//
// The mount is detached: no other process sees it, it needs no folder, and it ends with
// its descriptor, so neither a crash nor a power cut leaves anything behind. The kernel
// parses bytes that may be hostile, as it does when systemd merges the image.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Mount is the file system in a part of a file, mounted read-only. Opening a file of it
// follows no link out of it, and no file of it can be executed.
type Mount struct {
	fs.ReadLinkFS
	root *os.Root
	at   *os.File
}

// Open mounts the file system of type fstype in size bytes of image from offset on. It needs
// root. It fails with errkind.Unsupported if the kernel has no loop devices or no fstype,
// and with errkind.Corrupt if the kernel cannot mount the file system.
func Open(image *os.File, offset, size int64, fstype string) (*Mount, error) {
	m, err := open(image, offset, size, fstype)
	if err != nil {
		return nil, fmt.Errorf("mount %s image: %w", fstype, err)
	}
	return m, nil
}

func open(image *os.File, offset, size int64, fstype string) (_ *Mount, err error) {
	dev, err := attach(image, offset, size)
	if err != nil {
		return nil, err
	}
	// The mount keeps the loop device; without the mount, the device detaches itself
	// when the last descriptor closes.
	defer func() { err = errors.Join(err, dev.Close()) }()
	at, err := mount(dev.Name(), fstype)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", at.Fd()))
	if err != nil {
		return nil, errors.Join(err, at.Close())
	}
	links, ok := root.FS().(fs.ReadLinkFS)
	if !ok {
		return nil, errors.Join(errkind.Errorf(errkind.Unsupported, "a folder cannot tell its links"), root.Close(), at.Close())
	}
	return &Mount{ReadLinkFS: links, root: root, at: at}, nil
}

// Path is the root folder of the mount for this process, until Close.
func (m *Mount) Path() string { return fmt.Sprintf("/proc/self/fd/%d", m.at.Fd()) }

// Close unmounts, once the last file is closed.
func (m *Mount) Close() error { return errors.Join(m.root.Close(), m.at.Close()) }

// attach makes a loop device of a part of a file.
func attach(image *os.File, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, errkind.Errorf(errkind.Unsupported, "ask for a loop device: %w", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
	}}
	for range 100 { // others take devices too
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, errkind.Errorf(errkind.Unsupported, "ask for a loop device: %w", err)
		}
		dev, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY, 0)
		if err != nil {
			return nil, errkind.Errorf(errkind.Unsupported, "open loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, nil
		}
		err = errors.Join(err, dev.Close())
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", dev.Name(), err)
		}
	}
	return nil, errkind.Errorf(errkind.Unavailable, "set up a loop device: other processes took each free one first")
}

// mount makes a mount that is in no tree.
func mount(device, fstype string) (*os.File, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return nil, errkind.Errorf(errkind.Unsupported, "this kernel has no %s: %w", fstype, err)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(ctx)
	err = errors.Join(unix.FsconfigSetString(ctx, "source", device), unix.FsconfigSetFlag(ctx, "ro"))
	if fstype == "ext4" || fstype == "xfs" { // a journal that was not replayed is left as it is
		err = errors.Join(err, unix.FsconfigSetFlag(ctx, "norecovery"))
	}
	if err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, err
		}
		return nil, errkind.Errorf(errkind.Corrupt, "the kernel does not accept the file system: %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fstype), nil
}
