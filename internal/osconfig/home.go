package osconfig

import (
	"errors"
	"fmt"
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

// Bounds of what a new home is a copy of.
const (
	maxSkeletonFiles = 1024
	maxSkeletonFile  = 4 << 20 // bytes
)

// homeOwner is who owns a folder of the tree, if there is one.
func (s setup) homeOwner(home string) (uint32, bool, error) {
	info, err := inroot.FS(s.root).Stat(relative(home))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if !info.IsDir() {
		return 0, false, errkind.Errorf(errkind.Precondition, "its home %s is no folder", home)
	}
	return owner(info), true, nil
}

func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// relative is a name as package inroot takes it.
func relative(name string) string {
	if clean := strings.TrimPrefix(path.Clean("/"+name), "/"); clean != "" {
		return clean
	}
	return "."
}

// makeHome makes the home of a user where there is none: whole or not at all, for
// one that is there is left as it is.
func (s setup) makeHome(p account, defs defaults) error {
	if _, there, err := s.homeOwner(p.home); err != nil || there {
		return err
	}
	at, err := find(s.root, p.home)
	if err != nil {
		return err
	}
	err = s.touch("make home "+p.home, func() (err error) {
		if err := at.makeFolders(); err != nil {
			return err
		}
		if err := atomicfile.Sweep(at.file()); err != nil {
			return err
		}
		dir := filepath.Dir(at.file())
		tmp, err := os.MkdirTemp(dir, "."+at.name+".*")
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.RemoveAll(tmp))
			}
		}()
		if err := s.copySkeleton(defs.skeleton, tmp, p); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(tmp, int(p.uid), int(p.gid)), os.Chmod(tmp, defs.homeMode), atomicfile.SyncDir(tmp)); err != nil {
			return err
		}
		if err := os.Rename(tmp, at.file()); err != nil {
			return err
		}
		return atomicfile.SyncDir(dir)
	})
	if err != nil {
		return fmt.Errorf("make home %s: %w", p.home, err)
	}
	return nil
}

// copySkeleton fills a new home. A tree without a skeleton has empty ones.
func (s setup) copySkeleton(skeleton, home string, p account) error {
	from, err := inroot.FS(s.root).Folder(relative(skeleton))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	files := 0
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == from {
			return err
		}
		if files++; files > maxSkeletonFiles {
			return errkind.Errorf(errkind.TooLarge, "%s has more than %d files", skeleton, maxSkeletonFiles)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		return copyOne(file, filepath.Join(home, name), info, p)
	})
}

func copyOne(from, to string, info fs.FileInfo, p account) error {
	uid, gid := int(p.uid), int(p.gid)
	switch info.Mode().Type() {
	case fs.ModeDir:
		return errors.Join(os.Mkdir(to, 0o700), os.Chown(to, uid, gid), os.Chmod(to, info.Mode().Perm()), atomicfile.SyncDir(filepath.Dir(to)))
	case fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return errors.Join(os.Symlink(target, to), os.Lchown(to, uid, gid), atomicfile.SyncDir(filepath.Dir(to)))
	case 0:
		if info.Size() > maxSkeletonFile {
			return errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", from, maxSkeletonFile)
		}
		return copyFile(from, to, info.Mode().Perm(), uid, gid)
	}
	return errkind.Errorf(errkind.Precondition, "%s is neither a file, a folder nor a link", from)
}

// authorize makes keys the ones that may log in over SSH, and no others. What is in
// a home is its user's doing, and the home may be one that a running OS uses too:
// nothing below it is found by a name that the user could turn into a link.
func (s setup) authorize(p account, keys []string) error {
	f, err := inroot.FS(s.root).Open(relative(p.home))
	if err != nil {
		return err
	}
	defer f.Close()
	home, ok := f.(*os.File)
	info, err := f.Stat()
	if err != nil || !ok {
		return errors.Join(err, fs.ErrInvalid)
	}
	if id := owner(info); id != p.uid && id != 0 {
		err := errkind.Errorf(errkind.Precondition, "its home %s belongs to user ID %d and not to %d: SSH would not take its keys", p.home, id, p.uid)
		return errkind.WithHint(err, "Set uid to the owner of the home, or homeDirectory to another folder.")
	}
	err = s.touch("write keys of "+p.name, func() error {
		dir, err := sshFolder(home, p)
		if err != nil {
			return err
		}
		defer dir.Close()
		file := fmt.Sprintf("/proc/self/fd/%d/authorized_keys", dir.Fd())
		if err := atomicfile.Sweep(file); err != nil {
			return err
		}
		return atomicfile.FillFunc(file, 0o600, func(out *os.File) error {
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

// sshFolder opens the folder of a user's keys, which is made where there is none.
func sshFolder(home *os.File, p account) (*os.File, error) {
	const name = ".ssh"
	err := unix.Mkdirat(int(home.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	isNew := err == nil
	fd, err := unix.Openat(int(home.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, errkind.Errorf(errkind.Precondition, "%s is a link, or no folder", path.Join(p.home, name))
	}
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), path.Join(p.home, name))
	info, err := dir.Stat()
	if err == nil && owner(info) != p.uid && owner(info) != 0 && !isNew {
		err = errkind.Errorf(errkind.Precondition, "%s belongs to user ID %d", path.Join(p.home, name), owner(info))
	}
	if err == nil {
		err = errors.Join(dir.Chown(int(p.uid), int(p.gid)), dir.Chmod(0o700), home.Sync())
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}
