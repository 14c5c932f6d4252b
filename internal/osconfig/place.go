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

// folderMode is that of folders that are made on the way to a file.
const folderMode = 0o755

// A place is where a file is or would be: the last folder on its path that is there,
// and the names of the folders below it that are not.
type place struct {
	dir     *inroot.Dir
	missing []string
	name    string
}

// withPlace gives use the place of a file, whose folder is held open meanwhile.
func withPlace(root, name string, use func(at place) error) error {
	dir, missing, base, err := inroot.FS(root).Parent(name)
	if err != nil {
		return err
	}
	return errors.Join(use(place{dir, missing, base}), dir.Close())
}

// occupant is what is in the place: nil for nothing.
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
		return nil, errkind.Errorf(errkind.Precondition, "there is something in its place that is neither a file nor a link")
	}
	return info, nil
}

// inFolder gives use the folder of the place, after the missing ones are made.
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

// replace makes a file at the place, or replaces a file or a link there.
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

// link makes a link at the place, or replaces a file or a link there.
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

// folder is what tells the folder of the place from others.
func (p place) folder() *Folder {
	f := &Folder{Boot: bootID(), Foreign: p.dir.IsForeign()}
	f.Device, f.Inode = p.dir.ID()
	return f
}

// checkIs fails if the folder of the place is another one.
func (f *Folder) checkIs(at place) error {
	if len(at.missing) > 0 {
		return errors.New("the folder that it was in is gone")
	}
	now := at.folder()
	if now.Inode != f.Inode || now.Boot == f.Boot && now.Device != f.Device {
		return fmt.Errorf("%s is not the folder that it was in", at.dir.Path())
	}
	return nil
}

// bootID tells one boot of this host from another, or is "".
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// Link makes name a link that says target. A link or file in its place is replaced.
func Link(root, name, target string) error {
	err := withPlace(root, name, func(at place) error { return at.link(target, -1, -1) })
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}
