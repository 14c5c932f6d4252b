package extension

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

// form is the form that an extension has on disk.
type form string

// The forms. A versioned one is a folder NAME.raw.v or NAME.v of which systemd
// from 256 on merges the newest entry (systemd.v(7)).
const (
	formDirectory form = "directory"
	formRaw       form = "raw"
	formBlock     form = "block"
	formVersioned form = "versioned"
)

// discovered is an extension that systemd finds.
type discovered struct {
	Class  Class
	Name   string
	Path   string // as systemd sees it, below the root folder that was searched
	Kind   form
	Masked bool // an empty folder: it only hides the later extensions of its name
}

// search returns the sysexts below root, sorted by name. Like systemd it ignores a dangling
// link, and fails at a link that it cannot follow for another reason.
func search(root string) ([]discovered, error) {
	found, err := Sysext.scan(root)
	return firstHits(found), err
}

// scan finds every extension of the class, in the order of the search path, and
// in a folder by file name.
func (c Class) scan(root string) ([]discovered, error) {
	fsys := inroot.FS(root)
	var found []discovered
	for _, dir := range c.facts().search {
		names, err := fsys.List(dir)
		if err != nil {
			return nil, fmt.Errorf("search extensions: %w", err)
		}
		for _, name := range names {
			f, ok, err := c.identify(fsys, path.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("search extensions: %w", err)
			}
			if ok {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// firstHits returns the first extension of each name, which is systemd's choice, sorted by
// name.
func firstHits(all []discovered) []discovered {
	var found []discovered
	for _, f := range all {
		if !slices.ContainsFunc(found, func(o discovered) bool { return o.Name == f.Name }) {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b discovered) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// identify returns the extension that systemd sees in an entry of the search path; false if
// systemd ignores the entry.
func (c Class) identify(fsys inroot.FS, file string) (discovered, bool, error) {
	info, err := fsys.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return discovered{}, false, nil
	}
	if err != nil {
		return discovered{}, false, err
	}
	name := path.Base(file)
	f := discovered{Class: c, Path: "/" + file}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		raw, ok := strings.CutSuffix(name, ".raw")
		if !ok {
			return discovered{}, false, nil
		}
		f.Kind, f.Name = formRaw, strings.TrimSuffix(raw, c.suffix())
	case mode.IsDir() && strings.HasSuffix(name, ".v"):
		f.Kind, f.Name = formVersioned, c.versionedName(name)
	case mode.IsDir():
		entries, err := fsys.List(file)
		if err != nil {
			return discovered{}, false, err
		}
		f.Kind, f.Name, f.Masked = formDirectory, strings.TrimSuffix(name, c.suffix()), len(entries) == 0
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		f.Kind, f.Name = formBlock, name
	default:
		return discovered{}, false, nil
	}
	return f, validName(f.Name), nil
}

// versionedName returns the NAME of NAME[.sysext][.raw].v.
func (c Class) versionedName(dir string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(dir, ".v"), ".raw"), c.suffix())
}

// Merged returns the names of the extensions of the class that are merged below root now,
// nil if none is.
func (c Class) Merged(root string) ([]string, error) {
	data, err := inroot.FS(root).ReadFile(c.facts().merged, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which extensions are merged: %w", err)
	}
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == '\n' }), nil
}
