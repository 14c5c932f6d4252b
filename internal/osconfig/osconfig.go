// Package osconfig writes what a Host Configuration says into the tree of an OS,
// and can put back what was there before.
//
// The tree may be the running one or one that is only mounted, so every function
// takes its root folder first; names in it are resolved as that OS would, and no
// link in it leads out of it. Users of the OS may own folders and links of a path:
// package inroot refuses those that could lead to what is not theirs, and what is
// changed is changed through a folder that is held open. What a file replaces is
// copied first (Keep), because a configuration that does not prove itself has to
// leave no trace.
package osconfig

import (
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

// MaxFile bounds one additional file, in bytes.
const MaxFile = 64 << 20

// Check looks whether a file could be written: nothing but a file or a link is in
// its place, and what it is in can be written. Errors are of kind Precondition; one
// is unix.EROFS where the file system is read-only.
func Check(root, name string) error {
	err := withPlace(root, name, func(at place) error {
		if _, err := at.occupant(); err != nil {
			return err
		}
		err := at.dir.CheckWritable()
		if errors.Is(err, unix.EROFS) {
			return errkind.WithHint(errkind.With(errkind.Precondition, err),
				"While a sysext is merged /usr is read-only; other file systems are as they were mounted.")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Write makes name a file of that mode, filled by fill, owned by root. A link in
// its place is replaced, and not followed. Folders that are missing are made: they
// are open to everybody, and belong to root or to the user whose folder they are in.
func Write(root, name string, mode fs.FileMode, fill func(io.Writer) error) error {
	err := withPlace(root, name, func(at place) error {
		return at.replace(mode, func(f *os.File) error { return fill(f) })
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Remove removes a file or link. That there is none is no error.
func Remove(root, name string) error {
	err := withPlace(root, name, func(at place) error {
		if len(at.missing) > 0 {
			return nil
		}
		if _, err := at.occupant(); err != nil {
			return err
		}
		return errors.Join(at.dir.Remove(at.name), at.dir.Sweep(at.name))
	})
	if leadsNowhere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// leadsNowhere reports whether a walk has failed because nothing can be at its end: a
// link on the way leads to nothing, or something on the way is not a folder.
func leadsNowhere(err error) bool {
	_, dangling := errors.AsType[*inroot.DanglingError](err)
	_, notFolder := errors.AsType[*inroot.NotFolderError](err)
	return dangling || notFolder
}

// Resolve returns the place that a name leads to in the OS below root, with the links
// on the way to its last folder followed. Folders that are missing are taken as they
// are named.
func Resolve(root, name string) (resolved string, err error) {
	err = withPlace(root, name, func(at place) error {
		resolved = path.Join(append(append([]string{"/", at.dir.Path()}, at.missing...), at.name)...)
		return nil
	})
	return resolved, err
}

// Kept is what was at a place before it was changed.
type Kept struct {
	Name string `json:"name"`
	// Was is "nothing", "file" or "link".
	Was    string      `json:"was"`
	Mode   fs.FileMode `json:"mode"` // of a file
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Target string      `json:"target"` // of a link
	// Missing is how many of the last folders of the path were not there.
	Missing int `json:"missing"`
	// Folder is the last folder of the path that was there. It is nil in records of
	// older releases.
	Folder *Folder `json:"folder,omitempty"`
}

// A Folder tells a folder of a host from all others.
type Folder struct {
	Device uint64 `json:"device"` // as numbered in that boot
	Inode  uint64 `json:"inode"`
	Boot   string `json:"boot"`
	// Foreign: a user other than root owned it, and could put another one in its place.
	Foreign bool `json:"foreign"`
}

// A MovedError says that what was kept is not restored, because a user of the host has
// put something else where it was: it must not get to where that user may want it.
type MovedError struct {
	Name string // of the place
	Why  error
}

func (e *MovedError) Error() string { return "restore " + e.Name + ": " + e.Why.Error() }
func (e *MovedError) Unwrap() error { return e.Why }

// Keep notes what is at a place, and copies it to the file copied if it is a file.
// Keeping it again, before it has changed, is harmless.
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
		if info, err = in.Stat(); err != nil { // the file that is copied, and no other
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

// copyBounded copies a file.
func copyBounded(out io.Writer, in io.Reader) error {
	n, err := io.Copy(out, io.LimitReader(in, MaxFile+1))
	if err == nil && n > MaxFile {
		return errkind.Errorf(errkind.TooLarge, "it has more than %d bytes", MaxFile)
	}
	return err
}

// Restore brings back what was kept; folders that were made since go, as far as
// they are empty. It may be called again. A place that a user could have led, or has
// led, elsewhere since is left as it is: that is a [MovedError].
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

// isOfDisk reports whether an error is of the disk, and not of what is on it.
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
		if len(at.missing) > 0 {
			return nil
		}
		if _, err := at.occupant(); err != nil {
			return err
		}
		return errors.Join(at.dir.Remove(at.name), at.dir.Sweep(at.name))
	case "link":
		return at.link(k.Target, k.UID, k.GID)
	}
	return at.replace(k.Mode, func(out *os.File) error {
		return errors.Join(copyBounded(out, old), out.Chown(k.UID, k.GID))
	})
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
