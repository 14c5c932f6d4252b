package osconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// folderMode is the mode of the folders that are made for a file.
const folderMode = 0o755

// A place is where a file is or would be: the last existing folder of its path, and the
// names of the missing folders below.
type place struct {
	dir     *inroot.Dir
	missing []string
	name    string
}

// withPlace calls use with the place of the file name, and closes the folder of the
// place after that.
func withPlace(root, name string, use func(at place) error) error {
	dir, missing, base, err := inroot.FS(root).Parent(name)
	if err != nil {
		return err
	}
	return errors.Join(use(place{dir, missing, base}), dir.Close())
}

// occupant returns the file or symbolic link in the place, or nil. It fails, with
// errkind.Precondition, if something else is in the place.
func (p place) occupant() (fs.FileInfo, error) {
	if len(p.missing) > 0 {
		return nil, nil
	}
	info, err := p.dir.Lstat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return nil, errkind.Errorf(errkind.Precondition, "the path is neither a file nor a link")
	}
	return info, nil
}

// inFolder makes the missing folders and calls use with the folder of the file.
func (p place) inFolder(use func(dir *inroot.Dir) error) error {
	if len(p.missing) == 0 {
		return use(p.dir)
	}
	dir, err := p.dir.Mkdir(p.missing[0], folderMode)
	if err != nil {
		return err
	}
	return errors.Join(place{dir, p.missing[1:], p.name}.inFolder(use), dir.Close())
}

// replace atomically writes a file in the place; it may replace a file or a symbolic link.
func (p place) replace(mode fs.FileMode, fill func(*os.File) error) error {
	if _, err := p.occupant(); err != nil {
		return err
	}
	return p.inFolder(func(dir *inroot.Dir) error {
		if err := dir.Sweep(p.name); err != nil {
			return err
		}
		return dir.Replace(p.name, mode, fill)
	})
}

// link atomically makes a symbolic link in the place; it may replace a file or a link.
func (p place) link(target string, uid, gid int) error {
	if _, err := p.occupant(); err != nil {
		return err
	}
	return p.inFolder(func(dir *inroot.Dir) error {
		if err := dir.Sweep(p.name); err != nil {
			return err
		}
		return dir.Symlink(target, p.name, uid, gid)
	})
}

// remove removes the file or symbolic link in the place, if there is one.
func (p place) remove() error {
	if len(p.missing) > 0 {
		return nil
	}
	if _, err := p.occupant(); err != nil {
		return err
	}
	return errors.Join(p.dir.Remove(p.name), p.dir.Sweep(p.name))
}

// folder returns the identity of the folder of the place.
func (p place) folder() *Folder {
	f := &Folder{Boot: bootID(), Foreign: p.dir.IsForeign()}
	f.Device, f.Inode = p.dir.ID()
	return f
}

// checkIs fails if the folder of the place is not f.
func (f *Folder) checkIs(at place) error {
	if len(at.missing) > 0 {
		return errors.New("the folder of the file does not exist any more")
	}
	now := at.folder()
	if now.Inode != f.Inode || now.Boot == f.Boot && now.Device != f.Device {
		return fmt.Errorf("%s is not the folder that the file was in", at.dir.Path())
	}
	return nil
}

// bootID returns the ID of this boot of the host, or "" if it cannot be read.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// Link makes name a symbolic link to target, verbatim. It may replace a link or a file.
func Link(root, name, target string) error {
	err := withPlace(root, name, func(at place) error { return at.link(target, -1, -1) })
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}
