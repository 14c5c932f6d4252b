package inroot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

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
