package machine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/mount"
)

// MountVerified is MountIn for a file system whose bytes dm-verity verifies: it mounts the
// file system read-only, and the kernel does not even replay its journal.
func (m Machine) MountVerified(root, at, device string, noExec bool) error {
	fstype, err := m.FSType(device)
	if err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	f := mount.FileSystem{Source: device, Type: fstype, NoExec: noExec, ReadOnly: true, Options: map[string]string{
		"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay",
	}[fstype]}
	return m.mountIn(root, at, f)
}

// MountOverlay mounts an overlay over the folder at of the tree root. The folder changes of
// that tree, which may be on another file system, gets what is written to it.
func (m Machine) MountOverlay(root, at, changes string, noExec bool) (err error) {
	var dirs [3]*inroot.Dir
	for i, name := range []string{at, changes + "/upper", changes + "/work"} {
		if dirs[i], err = inroot.FS(root).MakeDir(name, 0o755); err != nil {
			return fmt.Errorf("mount an overlay on %s: %w", at, err)
		}
		defer func() { err = errors.Join(err, dirs[i].Close()) }()
	}
	lower := dirs[0].File()
	f := mount.FileSystem{Source: "overlay", Type: "overlay", NoExec: noExec, Options: fmt.Sprintf(
		"lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", lower.Fd(), dirs[1].File().Fd(), dirs[2].File().Fd())}
	if err := m.Mounts.Mount(f, lower); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w", at, err)
	}
	return nil
}

// missingFolder explains why a mount point cannot be made.
func missingFolder(at string, err error) error {
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	err = errkind.Errorf(errkind.Precondition, "the folder above is read-only and does not have it: %w", err)
	return errkind.WithHint(err, "Build the image with an empty folder %s.", at)
}
