package osconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// Limits on the skeleton that new homes are copied from.
const (
	maxSkeletonFiles = 1024    // files and folders
	maxSkeletonFile  = 4 << 20 // bytes
)

// homeOwner returns the user ID of the owner of a folder; false if the folder does not
// exist.
func (s setup) homeOwner(home string) (uint32, bool, error) {
	dir, err := inroot.FS(s.root).Dir(home)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("home %s: %w", home, err)
	}
	uid, _ := dir.Owner()
	return uid, true, dir.Close()
}

// makeHome makes the home of a user if it does not exist. A home appears under its name
// only when it is complete, because makeHome never changes an existing one.
func (s setup) makeHome(p account, defs defaults) error {
	if _, there, err := s.homeOwner(p.home); err != nil || there {
		return err
	}
	err := s.touch("make home "+p.home, func() error {
		return withPlace(s.root, p.home, func(at place) error {
			return at.inFolder(func(dir *inroot.Dir) error { return s.makeHomeIn(dir, at.name, p, defs) })
		})
	})
	if err != nil {
		return fmt.Errorf("make home %s: %w", p.home, err)
	}
	return nil
}

// makeHomeIn makes the home under a temporary name, which Sweep removes after a power
// cut, and renames the complete home.
func (s setup) makeHomeIn(dir *inroot.Dir, name string, p account, defs defaults) (err error) {
	tmp := "." + name + ".0"
	if err := errors.Join(dir.Sweep(name), dir.Sweep(tmp)); err != nil {
		return err
	}
	home, err := dir.Mkdir(tmp, 0o700)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, home.Close())
		if err != nil {
			err = errors.Join(err, dir.RemoveAll(tmp))
		}
	}()
	if err := s.copySkeleton(defs.skeleton, home, p); err != nil {
		return err
	}
	if err := errors.Join(home.Chown(int(p.uid), int(p.gid)), home.Chmod(defs.homeMode), home.Sync()); err != nil {
		return err
	}
	return dir.Rename(tmp, name)
}

// copySkeleton copies the skeleton into a new home. Without a skeleton the home stays
// empty.
func (s setup) copySkeleton(skeleton string, home *inroot.Dir, p account) error {
	from, err := inroot.FS(s.root).Dir(skeleton)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	files := 0
	return errors.Join(copyFolder(from, home, p, &files), from.Close())
}

// copyFolder copies the content of a folder with all its subfolders and gives it to the
// user. It adds to files, and fails beyond maxSkeletonFiles.
func copyFolder(from, to *inroot.Dir, p account, files *int) error {
	names, err := from.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if *files++; *files > maxSkeletonFiles {
			return errkind.Errorf(errkind.TooLarge, "%s has more than %d files", from.Path(), maxSkeletonFiles)
		}
		if err := copyOne(from, to, name, p, files); err != nil {
			return err
		}
	}
	return nil
}

func copyOne(from, to *inroot.Dir, name string, p account, files *int) error {
	info, err := from.Lstat(name)
	if err != nil {
		return err
	}
	uid, gid := int(p.uid), int(p.gid)
	switch info.Mode().Type() {
	case fs.ModeDir:
		source, err := from.Sub(name)
		if err != nil {
			return err
		}
		made, err := to.Mkdir(name, 0o700)
		if err != nil {
			return errors.Join(err, source.Close())
		}
		err = copyFolder(source, made, p, files)
		if err == nil {
			err = errors.Join(made.Chown(uid, gid), made.Chmod(info.Mode().Perm()))
		}
		return errors.Join(err, made.Close(), source.Close())
	case fs.ModeSymlink:
		target, err := from.Readlink(name)
		if err != nil {
			return err
		}
		return to.Symlink(target, name, uid, gid)
	}
	if info.Size() > maxSkeletonFile {
		return errkind.Errorf(errkind.TooLarge, "%s/%s has more than %d bytes", from.Path(), name, maxSkeletonFile)
	}
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return to.Replace(name, info.Mode().Perm(), func(out *os.File) error {
		return errors.Join(copyBounded(out, in), out.Chown(uid, gid))
	})
}

// authorize replaces the SSH keys of the user by keys. It trusts nothing in the home:
// the user can have put anything there, and a running OS may use the same home.
func (s setup) authorize(p account, keys []string) error {
	home, err := inroot.FS(s.root).Dir(p.home)
	if err != nil {
		return err
	}
	defer home.Close()
	if id, _ := home.Owner(); id != p.uid && id != 0 {
		err := errkind.Errorf(errkind.Precondition, "home %s belongs to user ID %d, not to %d: sshd would not accept the keys in it", p.home, id, p.uid)
		return errkind.WithHint(err, "Set uid to the owner of the home, or homeDirectory to another folder.")
	}
	err = s.touch("write keys of "+p.name, func() error {
		dir, err := sshFolder(home, p)
		if err != nil {
			return err
		}
		defer dir.Close()
		const name = "authorized_keys"
		if err := dir.Sweep(name); err != nil {
			return err
		}
		return dir.Replace(name, 0o600, func(out *os.File) error {
			for _, key := range keys {
				if _, err := out.WriteString(strings.TrimSpace(key) + "\n"); err != nil {
					return err
				}
			}
			return out.Chown(int(p.uid), int(p.gid))
		})
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path.Join(p.home, ".ssh/authorized_keys"), err)
	}
	return nil
}

// sshFolder opens the folder .ssh of a home, and makes it if it does not exist.
func sshFolder(home *inroot.Dir, p account) (*inroot.Dir, error) {
	const name = ".ssh"
	dir, err := home.Sub(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := home.Sweep(name); err != nil {
			return nil, err
		}
		dir, err = home.Mkdir(name, 0o700)
	case err == nil:
		if id, _ := dir.Owner(); id != p.uid && id != 0 {
			err = errkind.Errorf(errkind.Precondition, "%s belongs to user ID %d", path.Join(p.home, name), id)
			return nil, errors.Join(err, dir.Close())
		}
	}
	if err == nil {
		if err = errors.Join(dir.Chown(int(p.uid), int(p.gid)), dir.Chmod(0o700), home.Sync()); err != nil {
			err = errors.Join(err, dir.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return dir, nil
}
