// Package mount mounts and unmounts file systems of this host.
//
// Other processes must see the mounts: systemd, which runs scripts in the new tree, and
// tools. So the mounts are in the host's mount namespace and outlive a crash of the daemon.
// A caller calls Unmount before it mounts, to remove mounts of an earlier run.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Bind, as the type of a file system, mounts a folder in a second place, with all mounts
// below it.
const Bind = "bind"

// A FileSystem is a file system to mount: of a device, of a folder (with type Bind), or of
// the kernel, such as tmpfs.
type FileSystem struct {
	Source, Type string
	Options      string // those of the type
	// NoExec: no program on it can be run.
	NoExec bool
	// ReadOnly: nothing on it can be changed. It has no effect for Bind.
	ReadOnly bool
}

// Mounter mounts. It is an interface because only root can.
type Mounter interface {
	// Mount mounts a file system on a folder that is open, wherever that is by now. No
	// program on it gets another user's rights (nosuid), and but for Bind no file on it
	// is a device (nodev).
	Mount(f FileSystem, on *os.File) error
	// Unmount unmounts all that is mounted on the folder target and below. That it
	// is nothing is no error; that something is in use is one of kind Precondition.
	Unmount(target string) error
}

// Host mounts on this host.
type Host struct{}

var _ Mounter = Host{}

// Mount implements Mounter.
func (Host) Mount(f FileSystem, on *os.File) error {
	var err error
	if f.Type == Bind {
		err = bind(f, on)
	} else {
		flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID)
		if f.NoExec {
			flags |= unix.MS_NOEXEC
		}
		if f.ReadOnly {
			flags |= unix.MS_RDONLY
		}
		err = unix.Mount(f.Source, fmt.Sprintf("/proc/self/fd/%d", on.Fd()), f.Type, flags, f.Options)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", f.Source, on.Name(), kinded(err, f.Type))
	}
	return nil
}

// bind makes the copy a slave, so that unmounting it leaves the original alone, and
// does so before anybody sees it: services have the mounts of this host in namespaces
// of their own, and lose there only what was never of the original's kin. What stayed
// there would keep the disk below busy (mount_namespaces(7)).
func bind(f FileSystem, on *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, f.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	attr := unix.MountAttr{Propagation: unix.MS_SLAVE, Attr_set: unix.MOUNT_ATTR_NOSUID}
	if f.NoExec {
		attr.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", int(on.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func kinded(err error, fstype string) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return errkind.Errorf(errkind.Unsupported, "this kernel has no %s: %w", fstype, err)
	case errors.Is(err, unix.EBUSY):
		return errkind.With(errkind.Precondition, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EUCLEAN):
		return errkind.Errorf(errkind.Corrupt, "the kernel finds no valid file system: %w", err)
	}
	return err
}

// Unmount implements Mounter.
func (Host) Unmount(target string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Clean(target)))
	if err != nil {
		return fmt.Errorf("unmount %s: read table of mounts: %w", target, err)
	}
	for _, m := range slices.Backward(mounts) {
		at := m.Mountpoint
		// systemd may have unmounted it meanwhile.
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			if errors.Is(err, unix.EBUSY) {
				err = errkind.With(errkind.Precondition, err)
			}
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return nil
}
