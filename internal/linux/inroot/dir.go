package inroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// A Dir is an open folder of a tree. Its methods act on this folder, also if another
// process renames or replaces its path. They take names of its entries, and follow no link.
type Dir struct {
	file  *os.File
	super superuser
	thing
}

// openDir opens the folder name in the open folder at. It does not follow a link.
func openDir(at int, name, full string, super superuser) (*Dir, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, errkind.Errorf(errkind.Precondition, "%s is a link, or not a folder", full)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: full, Err: err}
	}
	d := &Dir{file: os.NewFile(uintptr(fd), full), super: super, thing: thing{path: full}}
	if err := unix.Fstat(fd, &d.st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: full, Err: err}, d.Close())
	}
	return d, nil
}

// Close closes the folder.
func (d *Dir) Close() error { return d.file.Close() }

func (d *Dir) fd() int { return int(d.file.Fd()) }

// Path returns the path of the folder, as the OS in the tree named it when the folder was
// opened. Use it for messages only.
func (d *Dir) Path() string { return d.path }

// File returns the folder for system calls that take a descriptor. Close of d closes it.
func (d *Dir) File() *os.File { return d.file }

// OnHost returns the path of the folder on this host, which is right until the folder is
// moved. It fails, with errkind.Precondition, if a user other than the superuser owns the
// folder and could move it.
func (d *Dir) OnHost() (string, error) {
	if d.IsForeign() {
		return "", errkind.Errorf(errkind.Precondition, "%s belongs to user ID %d, and must belong to root", d.path, d.st.Uid)
	}
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(d.fd()))
}

// IsForeign reports whether a user other than the superuser owns the folder, and so could
// replace it.
func (d *Dir) IsForeign() bool { return !d.super.is(d.st.Uid) }

// Owner returns the IDs of the user and the group that own the folder.
func (d *Dir) Owner() (uid, gid uint32) { return d.st.Uid, d.st.Gid }

// ID returns two numbers that identify the folder among all existing folders of a host. The
// number of the device may change with a reboot.
func (d *Dir) ID() (device, inode uint64) { return uint64(d.st.Dev), d.st.Ino }

// CheckWritable fails if the folder is not writable, with unix.EROFS if its file system is
// read-only.
func (d *Dir) CheckWritable() error {
	return d.failed("write to", ".", unix.Faccessat(d.fd(), ".", unix.W_OK, 0))
}

// CheckReplaceable returns an error of kind Precondition if name is a file that can be
// neither replaced nor removed: because something is mounted on it, as on files of a
// container, or because the file is immutable or append-only (chattr(1)).
func (d *Dir) CheckReplaceable(name string) error {
	var st unix.Statx_t
	err := unix.Statx(d.fd(), name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return d.failed("statx", name, err)
	}
	switch attributes := st.Attributes & st.Attributes_mask; {
	case attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		err := errkind.Errorf(errkind.Precondition, "a file system is mounted on the file, so Trident cannot replace it")
		return errkind.WithHint(err, "Unmount it, or omit this file from the configuration.")
	case attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0:
		err := errkind.Errorf(errkind.Precondition, "the file is immutable or append-only, so Trident cannot replace it")
		return errkind.WithHint(err, "See lsattr(1), and chattr -i or -a.")
	}
	return nil
}

// Sync makes the names in the folder durable.
func (d *Dir) Sync() error { return d.file.Sync() }

// failed adds the operation and the entry to an error.
func (d *Dir) failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path.Join(d.path, name), Err: err}
}

// Sub opens a folder in this one. It fails with an [UnsafeError] if the step is not safe,
// and with errkind.Precondition if name is a link or not a folder.
func (d *Dir) Sub(name string) (*Dir, error) {
	sub, err := openDir(d.fd(), name, path.Join(d.path, name), d.super)
	if err != nil {
		return nil, err
	}
	if err := d.super.check(d.thing, sub.thing); err != nil {
		return nil, errors.Join(err, sub.Close())
	}
	return sub, nil
}

// Mkdir makes a folder with mode perm, whatever the umask is. The folder belongs to this
// process's user, or to the owner of d if d is foreign, and has no ACL. Mkdir sets mode and
// owner before the folder gets its name. It replaces an empty folder, and fails with
// fs.ErrExist or unix.ENOTDIR if name is a file or a folder that is not empty.
func (d *Dir) Mkdir(name string, perm fs.FileMode) (made *Dir, err error) {
	tmp, err := d.temporary(name, func(tmp string) error { return unix.Mkdirat(d.fd(), tmp, 0o700) })
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(unix.Unlinkat(d.fd(), tmp, unix.AT_REMOVEDIR)))
		}
	}()
	// The owner of a foreign folder may have replaced tmp, with any folder that this user
	// may move. A change of an empty folder does no harm.
	if made, err = openDir(d.fd(), tmp, path.Join(d.path, name), d.super); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.Close())
		}
	}()
	if names, err := made.file.Readdirnames(1); len(names) > 0 || !errors.Is(err, io.EOF) {
		return nil, errors.Join(errkind.Errorf(errkind.Precondition, "another program replaced %s while Trident made it", made.path), err)
	}
	if err := withoutACL(made.file); err != nil {
		return nil, err
	}
	if d.IsForeign() {
		if err := made.Chown(int(d.st.Uid), int(d.st.Gid)); err != nil {
			return nil, err
		}
	}
	if d.st.Mode&unix.S_ISGID != 0 { // the new folder has the group of d, and inherits the bit
		perm |= fs.ModeSetgid
	}
	if err := errors.Join(made.Chmod(perm), made.Sync()); err != nil {
		return nil, err
	}
	return made, d.Rename(tmp, name)
}

func (d *Dir) restat() error { return d.failed("stat", ".", unix.Fstat(d.fd(), &d.st)) }

// Chown changes the owner of the folder itself.
func (d *Dir) Chown(uid, gid int) error { return errors.Join(d.file.Chown(uid, gid), d.restat()) }

// Chmod changes the mode of the folder itself.
func (d *Dir) Chmod(perm fs.FileMode) error { return errors.Join(d.file.Chmod(perm), d.restat()) }

// Lstat describes the entry name.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	f, err := d.openPath(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// openPath opens the entry name with O_PATH, without an effect on it.
func (d *Dir) openPath(name string) (*os.File, error) {
	fd, err := unix.Openat(d.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.failed("open", name, err)
	}
	return os.NewFile(uintptr(fd), path.Join(d.path, name)), nil
}

// Open opens a regular file for reading. It fails, with errkind.Precondition, for any other
// file, and then has not opened it.
func (d *Dir) Open(name string) (*os.File, error) {
	seen, err := d.openPath(name)
	if err != nil {
		return nil, err
	}
	defer seen.Close()
	info, err := seen.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errkind.Errorf(errkind.Precondition, "%s is not a regular file", seen.Name())
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(seen.Fd())), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, d.failed("open", name, err)
	}
	return os.NewFile(uintptr(fd), seen.Name()), nil
}

// Readlink returns the target of a link.
func (d *Dir) Readlink(name string) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.fd(), name, target)
	if err != nil {
		return "", d.failed("readlink", name, err)
	}
	return string(target[:n]), nil
}

// List returns the names of all entries, sorted.
func (d *Dir) List() ([]string, error) {
	again, err := openDir(d.fd(), ".", d.path, d.super) // d has one read position, for all its users
	if err != nil {
		return nil, err
	}
	defer again.Close()
	names, err := again.file.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

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
