package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// This file has every change of a file that the package makes, but for keys and images being
// copied. Each names itself to touch before it happens.

func fixed(data []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return data, nil }
}

// write replaces a file by the bytes that make returns.
func (p *Publisher) write(name string, make func() ([]byte, error), perm fs.FileMode) error {
	data, err := make()
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := p.touch("write " + name); err != nil {
		return err
	}
	return atomicfile.Write(name, data, perm)
}

func (p *Publisher) mkdir(name string, perm fs.FileMode) error {
	if err := p.touch("mkdir " + name); err != nil {
		return err
	}
	if err := os.MkdirAll(name, perm); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(name))
}

func (p *Publisher) rename(from, to string) error {
	if err := p.touch("rename " + from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(from)), atomicfile.SyncDir(filepath.Dir(to)))
}

func (p *Publisher) remove(name string) error {
	if err := p.touch("remove " + name); err != nil {
		return err
	}
	return os.RemoveAll(name)
}

// replacePair replaces two files of the folder dir as one, if the file system can exchange
// folders (renameat2(2), RENAME_EXCHANGE) and has hard links; it reports whether it could.
// Otherwise it replaces one after the other, and between the two a reader finds a pair that does
// not match.
func (p *Publisher) replacePair(dir string, files map[string][]byte, first string) (asOne bool, err error) {
	fresh := freshOf(dir)
	err = p.exchange(dir, fresh, files)
	if err == nil {
		return true, p.remove(fresh)
	}
	if !cannotExchange(err) {
		return false, fmt.Errorf("replace %s: %w", dir, err)
	}
	if err := p.remove(fresh); err != nil {
		return false, err
	}
	if err := p.write(filepath.Join(dir, first), fixed(files[first]), 0o644); err != nil {
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == first {
			continue
		}
		if err := p.write(filepath.Join(dir, name), fixed(files[name]), 0o644); err != nil {
			return false, err
		}
	}
	return false, nil
}

// freshOf is the folder that is about to become dir, or was dir. A crash may leave it.
func freshOf(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".new")
}

// sweep removes the folder that a crash after the exchange has left.
func (p *Publisher) sweep(dir string) error {
	if _, err := os.Lstat(freshOf(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return p.remove(freshOf(dir))
}

func cannotExchange(err error) bool {
	for _, e := range []error{unix.ENOSYS, unix.EINVAL, unix.EPERM, unix.EOPNOTSUPP, unix.EMLINK, unix.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// exchange makes the folder fresh with the files of dir, as hard links, and with the given
// ones instead of theirs, and exchanges the two folders.
func (p *Publisher) exchange(dir, fresh string, files map[string][]byte) error {
	if err := p.remove(fresh); err != nil {
		return err
	}
	if err := p.mkdir(fresh, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := p.touch("link into " + fresh); err != nil {
		return err
	}
	for _, e := range entries {
		_, replaced := files[e.Name()]
		switch {
		case replaced || strings.HasPrefix(e.Name(), "."): // a temporary file that a crash has left
			continue
		case !e.Type().IsRegular():
			return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s is not a regular file", filepath.Join(dir, e.Name())),
				"A folder of a feed has only regular files. Move it elsewhere.")
		}
		if err := os.Link(filepath.Join(dir, e.Name()), filepath.Join(fresh, e.Name())); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := p.write(filepath.Join(fresh, name), fixed(files[name]), 0o644); err != nil {
			return err
		}
	}
	if err := p.touch("exchange " + dir); err != nil {
		return err
	}
	if err := errors.Join(atomicfile.SyncDir(fresh), unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}
