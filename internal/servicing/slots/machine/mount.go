package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/mount"
)

// WithMount mounts a device on the folder at while use runs. It first unmounts what an
// earlier, killed daemon may have left mounted there. touch makes the changes.
func (m Machine) WithMount(touch Touch, device, fstype, at string, use func() error) (err error) {
	if err := m.Clear(touch, at); err != nil {
		return err
	}
	err = touch("mount "+filepath.Base(at), func() error {
		on, err := os.Open(at)
		if err != nil {
			return err
		}
		f := mount.FileSystem{Source: device, Type: fstype, NoExec: true}
		return errors.Join(m.Mounts.Mount(f, on), on.Close())
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, touch("unmount "+filepath.Base(at), func() error { return m.Mounts.Unmount(at) }))
	}()
	return use()
}

// Touch is [change.Host.Touch].
type Touch = func(name string, change func() error) error

// Clear unmounts at, and makes it a folder that only root can enter.
func (m Machine) Clear(touch Touch, at string) error {
	if err := touch("unmount "+filepath.Base(at), func() error { return m.Mounts.Unmount(at) }); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(at, 0o700), os.Chmod(at, 0o700))
}

// MountIn mounts the file system on a device, or a tmpfs without a device, in the tree root,
// never outside of it. It makes the folder if that is missing. A file system that this host has
// mounted read-only, as one that both slots share may be, is read-only in the tree, too.
func (m Machine) MountIn(root, at, device string, noExec bool) error {
	f := mount.FileSystem{Source: "tmpfs", Type: "tmpfs", NoExec: noExec}
	if device != "" {
		fstype, err := m.FSType(device)
		if err != nil {
			return fmt.Errorf("mount %s: %w", at, err)
		}
		f.Source, f.Type = device, fstype
	}
	err := m.mountIn(root, at, f)
	if device != "" && errors.Is(err, unix.EBUSY) {
		// The kernel refuses to mount a file system read-write while it is mounted read-only.
		f.ReadOnly = true
		if m.mountIn(root, at, f) == nil {
			return nil
		}
	}
	return err
}

// MountSystem mounts /dev, /proc and others in the tree root, for programs that run in it.
func (m Machine) MountSystem(root string) error {
	for _, f := range []struct {
		at string
		mount.FileSystem
	}{
		{"/dev", mount.FileSystem{Source: "/dev", Type: mount.Bind}},
		{"/sys", mount.FileSystem{Source: "/sys", Type: mount.Bind, NoExec: true}},
		{"/proc", mount.FileSystem{Source: "proc", Type: "proc", NoExec: true}},
		{"/run", mount.FileSystem{Source: "tmpfs", Type: "tmpfs"}},
		{"/tmp", mount.FileSystem{Source: "tmpfs", Type: "tmpfs"}},
	} {
		if err := m.mountIn(root, f.at, f.FileSystem); err != nil {
			return err
		}
	}
	return nil
}

func (m Machine) mountIn(root, at string, f mount.FileSystem) error {
	dir, err := inroot.FS(root).MakeDir(at, 0o755)
	if err != nil {
		return fmt.Errorf("mount %s: %w", at, missingFolder(at, err))
	}
	err = errors.Join(m.Mounts.Mount(f, dir.File()), dir.Close())
	if err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}
