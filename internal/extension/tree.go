package extension

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/extension/volume"
)

// checkTree returns a fault in the tree of an image for which systemd would fail. It
// ignores parts that it cannot read.
func checkTree(v volume.Volume, class Class, name string) (err error) {
	defer func() {
		if recover() != nil { // the reader met bytes that it does not expect
			err = nil
		}
	}()
	fsys, err := erofs.Open(v.Data)
	if err != nil {
		return nil
	}
	if v.IsUsr {
		fsys = volume.UsrFS{FS: fsys}
	}
	if _, err := fs.Stat(fsys, osRelease); err == nil {
		return errors.New("contains " + osRelease)
	}
	if _, err := fs.Stat(fsys, "etc/os-release"); err == nil {
		return nil // systemd ignores the tree of a whole system
	}
	return checkReleaseName(fsys, class, name)
}

// checkReleaseName fails unless systemd would find an extension-release for an image called
// name: the one with that name, or else the only one in its folder that has the part of the
// name before "_" or "+" (systemd from 255 on) or the attribute strictAttr, false. It also
// accepts an image of the other class, which systemd ignores.
func checkReleaseName(fsys fs.FS, class Class, name string) error {
	var others []string
	for _, dir := range [...]string{class.facts().releaseDir, class.other().facts().releaseDir} {
		if _, err := fs.Stat(fsys, path.Join(dir, releasePrefix+name)); !errors.Is(err, fs.ErrNotExist) {
			return nil // it exists, or cannot be read
		}
		entries, err := readSome(fsys, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil
		}
		fit, unfit := sortReleases(entries, name)
		if len(fit) > 1 {
			return fmt.Errorf("has %d files in %s that could be its extension-release", len(fit), dir)
		}
		if len(fit) == 1 {
			return nil
		}
		others = append(others, unfit...)
	}
	if len(others) > 0 {
		return fmt.Errorf("has no extension-release.%s, but one for %q: give the image that name", name, others[0])
	}
	return fmt.Errorf("has no %s", class.releaseFile(name))
}

func sortReleases(entries []fs.DirEntry, name string) (fit, unfit []string) {
	base := unversioned(name)
	for _, e := range entries {
		switch suffix, ok := strings.CutPrefix(e.Name(), releasePrefix); {
		case !ok || !e.Type().IsRegular():
		case suffix == base || isLax(e):
			fit = append(fit, suffix)
		default:
			unfit = append(unfit, suffix)
		}
	}
	return fit, unfit
}

func readSome(fsys fs.FS, dir string) ([]fs.DirEntry, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, fs.ErrNotExist
	}
	entries, err := d.ReadDir(256)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, err
}

func isLax(e fs.DirEntry) bool {
	info, err := e.Info()
	if err != nil {
		return false
	}
	x, ok := info.(interface{ GetXattr(string) (string, bool) })
	if !ok {
		return false
	}
	strict, ok := x.GetXattr(strictAttr)
	return ok && isFalse(strict)
}

// strictAttr is the attribute that, if false, makes systemd ignore the name of an
// extension-release.
const strictAttr = "user.extension-release.strict"

// isFalse reports whether systemd reads s as false.
func isFalse(s string) bool {
	return slices.Contains([]string{"0", "no", "n", "false", "f", "off"}, strings.ToLower(s))
}
