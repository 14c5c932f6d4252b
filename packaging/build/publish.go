package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// publish has produce fill an empty folder beside dir and, when produce succeeded, puts
// that folder in the place of dir. After a failure dir is as before. Everybody may read
// what is published, whatever the umask of the builder.
func publish(dir string, produce func(dir string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s is as before: %w", dir, err)
		}
	}()
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // after the exchange: the previous content
	if err := produce(fresh); err != nil {
		return err
	}
	if err := makeReadable(fresh); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.ENOENT): // there is no dir yet
		return os.Rename(fresh, dir)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // a file system that cannot exchange
		return replace(dir, fresh)
	}
	return err
}

// replace renames fresh to dir; for a moment there is no dir.
func replace(dir, fresh string) error {
	previous := fresh + ".previous"
	if err := os.Rename(dir, previous); err != nil {
		return err
	}
	if err := os.Rename(fresh, dir); err != nil {
		return errors.Join(err, os.Rename(previous, dir))
	}
	return os.RemoveAll(previous)
}

func makeReadable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}
