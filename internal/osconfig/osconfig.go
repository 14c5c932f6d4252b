// Package osconfig writes the settings of a Host Configuration into the files of an OS,
// and can restore the previous files.
//
// The OS may be running, or only mounted, so every function takes its root folder
// first. Paths are resolved as that OS would resolve them: no symbolic link leads out
// of the root folder. Users of the OS may own folders and links of a path: package
// inroot refuses a link that a user could have pointed at files of others, and this
// package changes files only through a folder that it holds open. The caller copies a
// file before it replaces the file (Keep), so that a configuration that is rolled back
// leaves no trace.
package osconfig

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// MaxFile is the largest additional file, in bytes.
const MaxFile = 64 << 20

// Check reports whether Write could write the file name: the path does not exist or is a
// file or a symbolic link, and its folder is writable. The errors are of kind
// Precondition, and errors.Is finds unix.EROFS where the file system is read-only.
func Check(root, name string) error {
	err := withPlace(root, name, func(at place) error {
		occupant, err := at.occupant()
		if err != nil {
			return err
		}
		if occupant != nil {
			if err := at.dir.CheckReplaceable(at.name); err != nil {
				return err
			}
		}
		err = at.dir.CheckWritable()
		if errors.Is(err, unix.EROFS) {
			return errkind.WithHint(errkind.With(errkind.Precondition, err),
				"While a sysext is merged, /usr is read-only. For another file system, see its mount options.")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Write atomically writes the file name with that mode, owned by root; fill writes its
// content. Write replaces a symbolic link in its place and does not follow it. Write
// makes missing folders, of mode 0755, which belong to root or to the user who owns the
// folder above.
func Write(root, name string, mode fs.FileMode, fill func(io.Writer) error) error {
	err := withPlace(root, name, func(at place) error {
		return at.replace(mode, func(f *os.File) error { return fill(f) })
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Remove removes a file or symbolic link. It returns nil if there is none.
func Remove(root, name string) error {
	err := withPlace(root, name, place.remove)
	if leadsNowhere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// leadsNowhere reports whether err says that nothing can exist at a path: a link on the
// path is dangling, or something on the path is not a folder.
func leadsNowhere(err error) bool {
	_, dangling := errors.AsType[*inroot.DanglingError](err)
	_, notFolder := errors.AsType[*inroot.NotFolderError](err)
	return dangling || notFolder
}

// Resolve returns the path name of the OS in root, absolute, with all links of its folders
// resolved. It keeps the names of missing folders.
func Resolve(root, name string) (resolved string, err error) {
	err = withPlace(root, name, func(at place) error {
		resolved = path.Join(append(append([]string{"/", at.dir.Path()}, at.missing...), at.name)...)
		return nil
	})
	return resolved, err
}

// Kept is the state of one path before a change.
type Kept struct {
	Name string `json:"name"`
	// Was is "nothing", "file" or "link".
	Was    string      `json:"was"`
	Mode   fs.FileMode `json:"mode"` // of a file
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Target string      `json:"target"` // of a link
	// Missing is the number of folders at the end of the path that did not exist.
	Missing int `json:"missing"`
	// Folder is the last folder of the path that existed. It is nil in records of
	// older releases.
	Folder *Folder `json:"folder,omitempty"`
}

// A Folder identifies one folder of a host.
type Folder struct {
	Device uint64 `json:"device"` // the kernel's number, valid in that boot only
	Inode  uint64 `json:"inode"`
	Boot   string `json:"boot"` // the boot ID, or ""
	// Foreign: a user other than root could put another folder in its place.
	Foreign bool `json:"foreign"`
}

// A MovedError says that Restore did not restore a file, because a user of the host
// has, or may have, redirected its path: Restore must not write where that user wants.
type MovedError struct {
	Name string // the path
	Why  error
}

func (e *MovedError) Error() string { return "restore " + e.Name + ": " + e.Why.Error() }
func (e *MovedError) Unwrap() error { return e.Why }

// Keep returns the state of the path name and, if it is a file, copies the file to
// copied. It may be called again before the path changes.
func Keep(root, name, copied string) (k Kept, err error) {
	err = withPlace(root, name, func(at place) error {
		k = Kept{Name: name, Was: "nothing", Missing: len(at.missing), Folder: at.folder()}
		info, err := at.occupant()
		if err != nil || info == nil {
			return err
		}
		if info.Mode().Type() == fs.ModeSymlink {
			k.Was = "link"
			k.UID, k.GID = ownerOf(info)
			k.Target, err = at.dir.Readlink(at.name)
			return err
		}
		in, err := at.dir.Open(at.name)
		if err != nil {
			return err
		}
		defer in.Close()
		if info, err = in.Stat(); err != nil { // of the opened file, which may be another one by now
			return err
		}
		k.Was, k.Mode = "file", info.Mode()&^fs.ModeType
		k.UID, k.GID = ownerOf(info)
		return atomicfile.WriteFunc(copied, 0o600, func(out io.Writer) error { return copyBounded(out, in) })
	})
	if err != nil {
		return Kept{}, fmt.Errorf("keep %s: %w", name, err)
	}
	return k, nil
}

func ownerOf(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return 0, 0
}

// copyBounded copies at most MaxFile bytes; it fails if in has more.
func copyBounded(out io.Writer, in io.Reader) error {
	n, err := io.Copy(out, io.LimitReader(in, MaxFile+1))
	if err == nil && n > MaxFile {
		return errkind.Errorf(errkind.TooLarge, "the file has more than %d bytes", MaxFile)
	}
	return err
}

// Restore restores the state k of its path, from the file copied if there was a file,
// and removes the folders made since if they are empty. It may be called again. It
// changes nothing and returns a [MovedError] if a user has redirected the path since,
// or could have.
func (k Kept) Restore(root, copied string) (err error) {
	var old *os.File // nil where there was no file
	if k.Was == "file" {
		if old, err = os.OpenFile(copied, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
			return fmt.Errorf("restore %s: %w", k.Name, err)
		}
		defer old.Close()
	}
	foreign := k.Folder != nil && k.Folder.Foreign
	err = withPlace(root, k.Name, func(at place) error {
		foreign = foreign || at.dir.IsForeign()
		if foreign && k.Folder != nil && k.Missing == 0 {
			if err := k.Folder.checkIs(at); err != nil {
				return err
			}
		}
		return k.restoreAt(at, old)
	})
	if k.Was == "nothing" && leadsNowhere(err) {
		return nil
	}
	if err == nil && k.Was == "nothing" {
		err = k.removeFolders(root)
	}
	if err == nil {
		return nil
	}
	if _, unsafe := errors.AsType[*inroot.UnsafeError](err); unsafe || foreign && !isOfDisk(err) {
		return &MovedError{k.Name, err}
	}
	return fmt.Errorf("restore %s: %w", k.Name, err)
}

// isOfDisk reports whether the disk is the cause of an error: full, broken or read-only.
func isOfDisk(err error) bool {
	for _, no := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func (k Kept) restoreAt(at place, old *os.File) error {
	switch k.Was {
	case "nothing":
		return at.remove()
	case "link":
		return at.link(k.Target, k.UID, k.GID)
	}
	err := at.replace(k.Mode, func(out *os.File) error {
		return errors.Join(copyBounded(out, old), out.Chown(k.UID, k.GID))
	})
	if err != nil && k.isAt(at, old) {
		return nil // what could not be replaced now could not be changed before
	}
	return err
}

// isAt reports whether the file at a place has the content, the mode and the owner of k.
// old is the copy of the content.
func (k Kept) isAt(at place, old *os.File) bool {
	if len(at.missing) > 0 {
		return false
	}
	now, err := at.dir.Open(at.name)
	if err != nil {
		return false
	}
	defer now.Close()
	info, err := now.Stat()
	if err != nil || info.Mode()&^fs.ModeType != k.Mode {
		return false
	}
	if uid, gid := ownerOf(info); uid != k.UID || gid != k.GID {
		return false
	}
	if _, err := old.Seek(0, io.SeekStart); err != nil {
		return false
	}
	have, err := digestOf(now)
	if err != nil {
		return false
	}
	want, err := digestOf(old)
	return err == nil && have == want
}

// digestOf returns the digest of a file of at most MaxFile bytes.
func digestOf(in io.Reader) (digest [sha256.Size]byte, err error) {
	h := sha256.New()
	err = copyBounded(h, in)
	h.Sum(digest[:0])
	return digest, err
}

func (k Kept) removeFolders(root string) error {
	dir := path.Clean("/" + k.Name)
	for range k.Missing {
		dir = path.Dir(dir)
		err := withPlace(root, dir, func(at place) error {
			if len(at.missing) > 0 {
				return nil
			}
			return at.dir.RemoveEmpty(at.name)
		})
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
