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

// storeDir is the folder of the images, each named after the hash of its content. systemd
// does not search it.
const storeDir = "var/lib/trident/extensions"

var storedName = regexp.MustCompile(`^[0-9a-f]{96}\.raw$`)

// folder returns the real path of the folder dir of the host, or "" if the folder does not
// exist and perm is 0. With perm it makes the folder and its parents with that mode,
// whatever the umask is. It follows links within the root folder. It fails, with
// errkind.Precondition, for a folder that a user other than root can change, because the
// programs of an image in it run as root.
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
		return "", errkind.Errorf(errkind.Precondition, "the path has a dangling link: %w", err)
	}
	if err != nil {
		return "", err
	}
	real, err := d.OnHost()
	return real, errors.Join(err, d.Close())
}

// place is the path of an extension on disk.
type place struct {
	Extension
	file  string // its path on disk, without links
	store string // the store's folder on disk
}

// placeOf returns the place of an extension; ok is false if its folder does not exist and
// perm is 0. With perm it makes the folder.
func (s *Store) placeOf(e Extension, perm fs.FileMode) (_ place, ok bool, err error) {
	store, err := s.folder(storeDir, storePerm(perm))
	if err != nil {
		return place{}, false, err
	}
	dir, err := s.folder(strings.TrimPrefix(path.Dir(e.Path), "/"), perm)
	if err != nil || dir == "" {
		return place{}, false, err
	}
	return place{e, filepath.Join(dir, path.Base(e.Path)), store}, true, nil
}

func storePerm(perm fs.FileMode) fs.FileMode { return perm & 0o700 }

func (p place) image() string { return filepath.Join(p.store, p.SHA384+".raw") }

// link returns the target for the link at the place. The target is relative, so that it is
// valid from inside and from outside of a root folder.
func (p place) link() (string, error) { return filepath.Rel(filepath.Dir(p.file), p.image()) }

// state is the kind of file at a place.
type state string

const (
	absent  state = "nothing"
	linked  state = "a link to the store"
	regular state = "a regular file"
	foreign state = "a file that Trident did not write"
)

// occupant returns the kind of file at the place, and of a link to the store the hash of its
// image.
func (p place) occupant() (state, string, error) {
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

// copyToStore stores the regular file at the place, which must have the hash of the
// extension. The file stays at its place.
func (p place) copyToStore(ctx context.Context) error {
	if err := checkHash(ctx, p.file, p.SHA384); err != nil {
		return err
	}
	if checkHash(ctx, p.image(), p.SHA384) == nil {
		return nil
	}
	if err := atomicfile.Remove(p.image()); err != nil {
		return err
	}
	return linkOrCopy(p.file, p.image())
}

// restoreFile replaces the file at the place by the image as a regular file, as upstream's
// Trident had written it.
func (p place) restoreFile(ctx context.Context) error {
	if err := checkHash(ctx, p.image(), p.SHA384); err != nil {
		return err
	}
	// systemd ignores a file with this name.
	tmp := filepath.Join(filepath.Dir(p.file), "."+filepath.Base(p.file)+".trident")
	if err := atomicfile.Remove(tmp); err != nil {
		return err
	}
	if err := linkOrCopy(p.image(), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.file); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(p.file))
}

// linkOrCopy makes to a hard link to the file from or, on another file system, a copy.
func linkOrCopy(from, to string) error {
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
