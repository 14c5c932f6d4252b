package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Replace makes name a file with the content that fill writes. A reader, also one after a
// power cut, finds the old content or the new. The file belongs to this process's user
// unless fill changes the owner, and has no ACL unless fill sets one. Replace fails if name
// is a folder.
func (d *Dir) Replace(name string, perm fs.FileMode, fill func(*os.File) error) error {
	var f *os.File
	tmp, err := d.temporary(name, func(tmp string) error {
		fd, err := unix.Openat(d.fd(), tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		f = os.NewFile(uintptr(fd), path.Join(d.path, name))
		return err
	})
	if err != nil {
		return err
	}
	err = withoutACL(f)
	if err == nil {
		err = fill(f)
	}
	if err == nil {
		err = errors.Join(f.Chmod(perm), f.Sync())
	}
	if err == nil {
		err = d.failed("rename", name, unix.Renameat(d.fd(), tmp, d.fd(), name))
	}
	if err != nil {
		return errors.Join(err, f.Close(), ignoreMissing(unix.Unlinkat(d.fd(), tmp, 0)))
	}
	// Sync again: on a FAT the new name belongs to an empty file until the file is
	// synced under it.
	return errors.Join(f.Sync(), f.Close(), d.Sync())
}

// Symlink makes name a symbolic link to target. Its owner is uid and gid, or that of this
// process for -1. Symlink replaces a file or link, and fails if name is a folder.
func (d *Dir) Symlink(target, name string, uid, gid int) error {
	tmp, err := d.temporary(name, func(tmp string) error { return unix.Symlinkat(target, d.fd(), tmp) })
	if err != nil {
		return err
	}
	if uid >= 0 || gid >= 0 {
		err = d.failed("chown", name, unix.Fchownat(d.fd(), tmp, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err == nil {
		err = d.failed("rename", name, unix.Renameat(d.fd(), tmp, d.fd(), name))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(unix.Unlinkat(d.fd(), tmp, 0)))
	}
	return d.Sync()
}

// Link makes name a hard link to the file from in the folder other. It fails with
// fs.ErrExist if name exists.
func (d *Dir) Link(other *Dir, from, name string) error {
	if err := unix.Linkat(other.fd(), from, d.fd(), name, 0); err != nil {
		return d.failed("link", name, err)
	}
	return d.Sync()
}

// Rename renames an entry. It replaces an entry with the new name.
func (d *Dir) Rename(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return d.failed("rename", to, err)
	}
	return d.Sync()
}

// Remove removes an entry that is not a folder. It returns nil if there is none.
func (d *Dir) Remove(name string) error {
	if err := ignoreMissing(unix.Unlinkat(d.fd(), name, 0)); err != nil {
		return d.failed("remove", name, err)
	}
	return d.Sync()
}

// RemoveEmpty removes an empty folder. It returns nil if there is none, and fails with
// unix.ENOTEMPTY if the folder is not empty.
func (d *Dir) RemoveEmpty(name string) error {
	if err := ignoreMissing(unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR)); err != nil {
		return d.failed("remove", name, err)
	}
	return d.Sync()
}

// RemoveAll removes an entry; for a folder, with its content.
func (d *Dir) RemoveAll(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) { // unlink(2): both are errors for a folder
		return d.failed("remove", name, err)
	}
	sub, err := openDir(d.fd(), name, path.Join(d.path, name), d.super)
	if err != nil {
		return err
	}
	names, err := sub.List()
	for _, n := range names {
		err = errors.Join(err, sub.RemoveAll(n))
	}
	if err = errors.Join(err, sub.Close()); err != nil {
		return err
	}
	return d.failed("remove", name, ignoreMissing(unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR)))
}

// Sweep removes the temporary entries that interrupted calls of Replace, Symlink, Mkdir
// left beside name. Do not call it while another process makes name. In a foreign folder
// Sweep removes no folders, which may be that user's.
func (d *Dir) Sweep(name string) error {
	names, err := d.List()
	if err != nil {
		return fmt.Errorf("sweep beside %s: %w", path.Join(d.path, name), err)
	}
	var errs []error
	for _, n := range names {
		random, ok := strings.CutPrefix(n, "."+name+".")
		switch {
		case !ok || random == "" || strings.Trim(random, "0123456789") != "":
		case d.IsForeign():
			if err := unix.Unlinkat(d.fd(), n, 0); !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
				errs = append(errs, d.failed("remove", n, ignoreMissing(err)))
			}
		default:
			errs = append(errs, d.RemoveAll(n))
		}
	}
	return errors.Join(errs...)
}

// temporary calls create with a free name that Sweep(name) removes, and returns that name.
func (d *Dir) temporary(name string, create func(tmp string) error) (string, error) {
	for range 100 {
		tmp := "." + name + "." + strconv.FormatUint(rand.Uint64(), 10)
		err := create(tmp)
		if err == nil {
			return tmp, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", d.failed("create", name, err)
		}
	}
	return "", d.failed("create", name, fs.ErrExist)
}

// withoutACL removes from a new file or folder the ACL that it has inherited from the
// default ACL of its parent (acl(5)), so that only its mode decides who may use it.
func withoutACL(f *os.File) error {
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		err := unix.Fremovexattr(int(f.Fd()), name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return &fs.PathError{Op: "remove the inherited ACL of", Path: f.Name(), Err: err}
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
