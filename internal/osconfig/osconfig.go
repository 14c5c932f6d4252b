// Package osconfig writes what a Host Configuration says into the tree of an OS,
// and can put back what was there before.
//
// The tree may be the running one or one that is only mounted, so every function
// takes its root folder first; names in it are resolved as that OS would, and no
// link in it leads out of it. What a file replaces is copied first (Keep), because
// a configuration that does not prove itself has to leave no trace.
package osconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
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
	at, err := find(root, name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := at.look(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = unix.Access(at.dir, unix.W_OK)
	if errors.Is(err, unix.EROFS) {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "write %s: %w", name, err),
			"While a sysext is merged /usr is read-only; other file systems are as they were mounted.")
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Write makes name a file of that mode, filled by fill, owned by root. A link in
// its place is replaced, and not followed. Folders that are missing are made.
func Write(root, name string, mode fs.FileMode, fill func(io.Writer) error) error {
	at, err := find(root, name)
	if err == nil {
		err = at.makeFolders()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := at.look(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := atomicfile.Sweep(at.file()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return atomicfile.WriteFunc(at.file(), mode, fill)
}

// Remove removes a file or link. That there is none is no error.
func Remove(root, name string) error {
	at, err := find(root, name)
	if err != nil || len(at.missing) > 0 {
		return err
	}
	if _, err := at.look(); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return errors.Join(atomicfile.Remove(at.file()), atomicfile.Sweep(at.file()))
}

// spot is a place for a file: the part of its path that is there, resolved, and
// the folders and the name that are not.
type spot struct {
	dir     string
	missing []string
	name    string
}

func (s spot) file() string { return filepath.Join(s.dir, filepath.Join(s.missing...), s.name) }

func find(root, name string) (spot, error) {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		return spot{}, errkind.Errorf(errkind.Invalid, "it names no file")
	}
	s := spot{name: path.Base(clean)}
	for dir := path.Dir(clean); ; dir = path.Dir(dir) {
		real, err := inroot.FS(root).Folder(dir)
		if err == nil {
			s.dir = real
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "." {
			return spot{}, err
		}
		s.missing = append([]string{path.Base(dir)}, s.missing...)
	}
}

// look is what is in the place: nil for nothing.
func (s spot) look() (fs.FileInfo, error) {
	info, err := os.Lstat(s.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return nil, errkind.Errorf(errkind.Precondition, "there is something in its place that is neither a file nor a link")
	}
	return info, nil
}

func (s spot) makeFolders() error {
	dir := s.dir
	for _, name := range s.missing {
		at := filepath.Join(dir, name)
		err := os.Mkdir(at, 0o755)
		if errors.Is(err, fs.ErrExist) { // a link to nowhere: nothing else was not found
			return errkind.Errorf(errkind.Precondition, "%s is a link to nowhere", at)
		}
		if err != nil {
			return err
		}
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
		dir = at
	}
	return nil
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
}

// Keep notes what is at a place, and copies it to the file copied if it is a file.
// Keeping it again, before it has changed, is harmless.
func Keep(root, name, copied string) (Kept, error) {
	k, err := keep(root, name, copied)
	if err != nil {
		return Kept{}, fmt.Errorf("keep %s: %w", name, err)
	}
	return k, nil
}

func keep(root, name, copied string) (Kept, error) {
	at, err := find(root, name)
	if err != nil {
		return Kept{}, err
	}
	k := Kept{Name: name, Was: "nothing", Missing: len(at.missing)}
	info, err := at.look()
	if err != nil || info == nil {
		return k, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		k.UID, k.GID = int(st.Uid), int(st.Gid)
	}
	if info.Mode().IsRegular() {
		k.Was, k.Mode = "file", info.Mode()&^fs.ModeType
		return k, copyFile(at.file(), copied, 0o600, -1, -1)
	}
	k.Was = "link"
	k.Target, err = os.Readlink(at.file())
	return k, err
}

// Restore brings back what was kept; folders that were made since go, as far as
// they are empty. It may be called again.
func (k Kept) Restore(root, copied string) error {
	if err := k.restore(root, copied); err != nil {
		return fmt.Errorf("restore %s: %w", k.Name, err)
	}
	return nil
}

func (k Kept) restore(root, copied string) error {
	if k.Was == "nothing" {
		if err := Remove(root, k.Name); err != nil {
			return err
		}
		return k.removeFolders(root)
	}
	at, err := find(root, k.Name)
	if err == nil {
		err = at.makeFolders()
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Sweep(at.file()); err != nil {
		return err
	}
	if k.Was == "link" {
		return atomicfile.Symlink(k.Target, at.file())
	}
	return copyFile(copied, at.file(), k.Mode, k.UID, k.GID)
}

func (k Kept) removeFolders(root string) error {
	dir := path.Clean("/" + k.Name)
	for range k.Missing {
		dir = path.Dir(dir)
		at, err := find(root, dir)
		if err != nil || len(at.missing) > 0 {
			return err
		}
		err = os.Remove(at.file())
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(at.dir); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file, with an owner other than ours unless it is -1.
func copyFile(from, to string, mode fs.FileMode, uid, gid int) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.FillFunc(to, mode, func(out *os.File) error {
		if n, err := io.Copy(out, io.LimitReader(in, MaxFile+1)); err != nil {
			return err
		} else if n > MaxFile {
			return errkind.Errorf(errkind.TooLarge, "it has more than %d bytes", MaxFile)
		}
		if uid < 0 {
			return nil
		}
		return out.Chown(uid, gid)
	})
}
