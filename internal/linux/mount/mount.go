// Package mount puts file systems into the tree of this host and takes them out
// again.
//
// What is mounted here must be seen by others: by systemd, which runs scripts in
// the new tree, and by tools. So the mounts are the host's own, they outlive a
// daemon that crashes, and whoever mounts begins with Unmount, which takes away
// whatever there is.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Bind as the type of a file system shows a folder in another place, with what is
// mounted below it.
const Bind = "bind"

// Mounter mounts. It is an interface because only root can.
type Mounter interface {
	// Mount mounts a device, or with type Bind a folder, on the folder target.
	// Nothing on it can be set user ID; options are those of the type.
	Mount(source, target, fstype, options string) error
	// Unmount unmounts all that is mounted on the folder target and below. That it
	// is nothing is no error; that something is in use is one of kind Precondition.
	Unmount(target string) error
}

// Host mounts on this host.
type Host struct{}

var _ Mounter = Host{}

// Mount implements Mounter.
func (Host) Mount(source, target, fstype, options string) error {
	flags := uintptr(unix.MS_NODEV)
	switch fstype {
	case Bind:
		if err := bind(source, target); err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, target, kinded(err, fstype))
		}
		return nil
	case "proc", "sysfs", "tmpfs":
		flags |= unix.MS_NOSUID
	}
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, kinded(err, fstype))
	}
	return nil
}

// bind makes the copy a slave, so that unmounting it leaves the original alone, and
// does so before anybody sees it: services have the mounts of this host in namespaces
// of their own, and lose there only what was never of the original's kin. What stayed
// there would keep the disk below busy (mount_namespaces(7)).
func bind(source, target string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func kinded(err error, fstype string) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return errkind.Errorf(errkind.Unsupported, "this kernel has no %s: %w", fstype, err)
	case errors.Is(err, unix.EBUSY):
		return errkind.With(errkind.Precondition, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EUCLEAN):
		return errkind.Errorf(errkind.Corrupt, "there is no file system that the kernel takes: %w", err)
	}
	return err
}

// Unmount implements Mounter.
func (Host) Unmount(target string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	for _, at := range slices.Backward(below(string(table), target)) {
		// What systemd has unmounted in between, on its own, is as good.
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			if errors.Is(err, unix.EBUSY) {
				err = errkind.With(errkind.Precondition, err)
			}
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return nil
}

// below are the mounts of a table (proc_pid_mountinfo(5)) on target and below it,
// each after what it is mounted on.
func below(table, target string) []string {
	target = filepath.Clean(target)
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescape.Replace(fields[4])
		if at == target || strings.HasPrefix(at, strings.TrimSuffix(target, "/")+"/") {
			out = append(out, at)
		}
	}
	return out
}
