package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// storeDir is where the images are, called after their content. It is no folder
// that systemd searches.
const storeDir = "var/lib/trident/extensions"

var storedName = regexp.MustCompile(`^[0-9a-f]{96}\.raw$`)

// folder finds a folder of the host as the host itself would, so that no link in
// it leads out of the root folder; "" when there is none. With perm it makes it,
// and those above, with that mode, whatever the umask. A folder that a user other
// than root could change is an error of kind Precondition: its images would have
// the rights of root.
func (s *Store) folder(dir string, perm fs.FileMode) (string, error) {
	real, err := s.open(dir, perm)
	if err != nil {
		return "", fmt.Errorf("folder /%s: %w", dir, err)
	}
	return real, nil
}

func (s *Store) open(dir string, perm fs.FileMode) (string, error) {
	d, err := inroot.FS(s.Root).Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && perm != 0 {
		d, err = inroot.FS(s.Root).MakeDir(dir, perm)
	}
	_, dangling := errors.AsType[*inroot.DanglingError](err)
	switch {
	case perm == 0 && (dangling || errors.Is(err, fs.ErrNotExist)):
		return "", nil
	case dangling:
		return "", errkind.Errorf(errkind.Precondition, "there is a link to nowhere in its place: %w", err)
	}
	if err != nil {
		return "", err
	}
	real, err := d.OnHost()
	return real, errors.Join(err, d.Close())
}

// spot is a place for an extension on disk.
type spot struct {
	Extension
	file  string // its path on disk, without links
	store string // the store's folder on disk
}

// spot finds the place of an extension; ok is false when there is no such folder
// and perm is 0.
func (s *Store) spot(e Extension, perm fs.FileMode) (_ spot, ok bool, err error) {
	store, err := s.folder(storeDir, storePerm(perm))
	if err != nil {
		return spot{}, false, err
	}
	dir, err := s.folder(strings.TrimPrefix(path.Dir(e.Path), "/"), perm)
	if err != nil || dir == "" {
		return spot{}, false, err
	}
	return spot{e, filepath.Join(dir, path.Base(e.Path)), store}, true, nil
}

func storePerm(perm fs.FileMode) fs.FileMode { return perm & 0o700 }

func (p spot) image() string { return filepath.Join(p.store, p.SHA384+".raw") }

// link is what a link at the place has to say: relative, so that it is right
// from inside and from outside of a root folder.
func (p spot) link() (string, error) { return filepath.Rel(filepath.Dir(p.file), p.image()) }

// state is what is at a place.
type state string

const (
	absent  state = "nothing"
	linked  state = "a link to the store"
	regular state = "a regular file"
	foreign state = "something that trident did not put there"
)

// look tells what is at the place, and the hash that a link of ours names.
func (p spot) look() (state, string, error) {
	info, err := os.Lstat(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return absent, "", nil
	}
	if err != nil {
		return "", "", err
	}
	if info.Mode().IsRegular() {
		return regular, "", nil
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return foreign, "", nil
	}
	target, err := os.Readlink(p.file)
	if err != nil {
		return "", "", err
	}
	if p.store == "" || filepath.IsAbs(target) || filepath.Join(filepath.Dir(p.file), filepath.Dir(target)) != p.store || !storedName.MatchString(filepath.Base(target)) {
		return foreign, "", nil
	}
	return linked, strings.TrimSuffix(filepath.Base(target), ".raw"), nil
}

// keep makes sure that the regular file at the place is in the store too, under
// the name of its content. The file stays where it is.
func (p spot) keep(ctx context.Context) error {
	if err := checkHash(ctx, p.file, p.SHA384); err != nil {
		return err
	}
	if checkHash(ctx, p.image(), p.SHA384) == nil {
		return nil
	}
	if err := atomicfile.Remove(p.image()); err != nil {
		return err
	}
	return twin(p.file, p.image())
}

// giveBack puts the image itself back to the place.
func (p spot) giveBack(ctx context.Context) error {
	if err := checkHash(ctx, p.image(), p.SHA384); err != nil {
		return err
	}
	// Not a name that systemd takes for an image.
	tmp := filepath.Join(filepath.Dir(p.file), "."+filepath.Base(p.file)+".trident")
	if err := atomicfile.Remove(tmp); err != nil {
		return err
	}
	if err := twin(p.image(), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.file); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(p.file))
}

// twin makes to the same file as from or, on another file system, a copy of it.
func twin(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return atomicfile.SyncDir(filepath.Dir(to))
	}
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EMLINK) {
		return err
	}
	in, err := regfile.OpenPlain(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return atomicfile.WriteFunc(to, info.Mode().Perm(), func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}
