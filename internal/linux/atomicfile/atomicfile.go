// Package atomicfile replaces files so that a reader, also one after a power cut, finds
// the old content or the new content, never a part of either.
//
// Each function returns after the file and the folder that names it are on disk. After a
// failure the file has its old content, or the new content if the rename succeeded and a
// later sync, or the removal of a temporary folder, failed.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Write replaces path by a file with that content and mode perm.
func Write(path string, data []byte, perm fs.FileMode) error {
	return WriteFunc(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteForGroup replaces path by a file of the group gid with that content and mode perm.
func WriteForGroup(path string, data []byte, perm fs.FileMode, gid int) error {
	return FillFunc(path, perm, func(f *os.File) error {
		if err := f.Chown(-1, gid); err != nil {
			return err
		}
		_, err := f.Write(data)
		return err
	})
}

// WriteFunc replaces path by a file with the content that fill writes.
func WriteFunc(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return FillFunc(path, perm, func(f *os.File) error { return fill(f) })
}

// FillFunc replaces path by a file with the content that fill writes, in any order, to an
// empty file.
func FillFunc(path string, perm fs.FileMode, fill func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fill(f); err != nil {
		return discard(f, path, err)
	}
	if err := errors.Join(f.Chmod(perm), f.Sync()); err != nil {
		return discard(f, path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return discard(f, path, err)
	}
	// Sync again: on a FAT the new name belongs to an empty file until the file is
	// synced under it.
	if err := errors.Join(f.Sync(), f.Close(), SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func discard(f *os.File, path string, err error) error {
	return fmt.Errorf("write %s: %w", path, errors.Join(err, f.Close(), os.Remove(f.Name())))
}

// Symlink makes path a symbolic link to target. It replaces a file or link at path.
func Symlink(target, path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	tmp := filepath.Join(dir, "link")
	err = os.Symlink(target, tmp)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Sweep deletes the temporary files that an interrupted write of path left beside it. Do
// not call it while another process writes path.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !isAbsent(err) {
		return fmt.Errorf("sweep beside %s: %w", path, err)
	}
	var errs []error
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), "."+filepath.Base(path)+".")
		if ok && random != "" && strings.Trim(random, "0123456789") == "" {
			errs = append(errs, os.RemoveAll(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Remove removes path. It returns nil if path does not exist, also on a read-only file
// system.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !isAbsent(err) {
		if _, lerr := os.Lstat(path); isAbsent(lerr) {
			return nil // the kernel returns EROFS before it looks for the file
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder durable. It returns nil if the folder does not exist.
func SyncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0) // the open of a pipe would wait
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// isAbsent reports whether err says that a file does not exist, also because its parent is
// not a folder or is a link to itself.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}
