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

// Kind is the form that an extension has on disk.
type Kind string

// The forms. A Versioned one is a folder NAME.raw.v or NAME.v of which systemd
// from 256 on merges the newest entry (systemd.v(7)).
const (
	Directory Kind = "directory"
	Raw       Kind = "raw"
	Block     Kind = "block"
	Versioned Kind = "versioned"
)

// Found is an extension that systemd would take up.
type Found struct {
	Name   string
	Path   string // as systemd sees it, below the root folder that was searched
	Kind   Kind
	Masked bool // an empty folder: it only hides those of its name further down
}

// searchPath is where systemd from 254 on looks, the first hit for a name wins.
// Those before also look below /usr, which nobody uses.
var searchPath = [...]string{"etc/extensions", "run/extensions", "var/lib/extensions"}

// Search finds the extensions below root, sorted by name. A link to nowhere is
// passed over as systemd does; one that cannot be followed for another reason
// is an error, as it is one for systemd.
func Search(root string) ([]Found, error) {
	fsys := inroot.FS(root)
	var found []Found
	for _, dir := range searchPath {
		names, err := fsys.List(dir)
		if err != nil {
			return nil, fmt.Errorf("search extensions: %w", err)
		}
		for _, name := range names {
			f, ok, err := identify(fsys, path.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("search extensions: %w", err)
			}
			if ok && !slices.ContainsFunc(found, func(o Found) bool { return o.Name == f.Name }) {
				found = append(found, f)
			}
		}
	}
	slices.SortFunc(found, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// identify says what an entry of the search path is to systemd, if anything.
func identify(fsys inroot.FS, file string) (Found, bool, error) {
	info, err := fsys.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Found{}, false, nil
	}
	if err != nil {
		return Found{}, false, err
	}
	name := path.Base(file)
	f := Found{Path: "/" + file}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		raw, ok := strings.CutSuffix(name, ".raw")
		if !ok {
			return Found{}, false, nil
		}
		f.Kind, f.Name = Raw, strings.TrimSuffix(raw, ".sysext")
	case mode.IsDir() && strings.HasSuffix(name, ".v"):
		f.Kind, f.Name = Versioned, versionedName(name)
	case mode.IsDir():
		entries, err := fsys.List(file)
		if err != nil {
			return Found{}, false, err
		}
		f.Kind, f.Name, f.Masked = Directory, strings.TrimSuffix(name, ".sysext"), len(entries) == 0
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		f.Kind, f.Name = Block, name
	default:
		return Found{}, false, nil
	}
	return f, validName(f.Name), nil
}

// versionedName is the NAME of NAME[.sysext][.raw].v.
func versionedName(dir string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(dir, ".v"), ".raw"), ".sysext")
}

// Merged returns the names of the extensions that are merged below root now;
// none is no error.
func Merged(root string) ([]string, error) {
	data, err := inroot.FS(root).ReadFile(mergedList, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which extensions are merged: %w", err)
	}
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == '\n' }), nil
}

// mergedList is written by systemd into the tree that it merges.
const mergedList = "usr/.systemd-sysext/extensions"
