// Package images keeps the images of Trident on a host: it verifies an image when it opens it,
// publishes it in the store, links it, and knows to which image a rollback returns.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/version"
)

// PreviousName is a link in the store, to the image that a rollback returns to.
const PreviousName = "previous"

// An Image is one version in the store.
type Image struct {
	Version, RootHash string
	Size              int64
	Staged            time.Time
	// Retired is when the image stopped being the one that a rollback returns to; zero for
	// every other image.
	Retired time.Time
	// Active says that the extension link points to the image, Previous that a
	// rollback returns to it.
	Active, Previous bool
}

// Store is the folder of the images of Trident on one host, rescue.Dir. Every image <version>.raw
// in it has a record, <version>.json.
type Store struct {
	Root string // the root folder of the host, "/"
	// Now is the clock by which certificates are valid.
	Now func() time.Time
	// Touch gets the name of each change of the host and a function that makes the change,
	// and calls that function.
	Touch func(name string, change func() error) error
	// Whole reads a whole image; nil: the file does. Tests count with it.
	Whole func(*os.File) io.ReaderAt

	intact sync.Map // of intact, by path
}

func (s *Store) dir() string { return filepath.Join(s.Root, rescue.Dir) }

// Path returns the path of the image of version v.
func (s *Store) Path(v string) string { return filepath.Join(s.dir(), v+".raw") }

// LinkTo returns the target of the extension link for a version. It is relative,
// so that it is right inside and outside of a root folder.
func (s *Store) LinkTo(v string) string {
	return filepath.Join("..", strings.TrimPrefix(rescue.Dir, "var/lib/"), v+".raw")
}

// List lists the store, oldest version first.
func (s *Store) List() ([]Image, error) {
	entries, err := os.ReadDir(s.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	active, _, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return nil, err
	}
	previous := s.Previous()
	var out []Image
	for _, e := range entries {
		v, ok := strings.CutSuffix(e.Name(), ".raw")
		if _, err := version.Parse(v); !ok || err != nil || !e.Type().IsRegular() {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		i := Image{
			Version: v, RootHash: s.RootHash(v), Size: fi.Size(), Staged: fi.ModTime().UTC(), Active: v == active, Previous: v == previous,
		}
		if k, ok := s.readRecord(v); ok && !i.Active && !i.Previous {
			i.Retired = k.Retired
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Image) int { return Compare(a.Version, b.Version) })
	return out, nil
}

// RootHash returns the root hash of an image in the store, or "" if the file is
// missing or is not an image.
func (s *Store) RootHash(v string) string {
	f, err := regfile.Open(s.Path(v))
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	i, err := ddi.Open(f, fi.Size())
	if err != nil {
		return ""
	}
	return ddi.HashString(i.RootHash())
}

// Compare compares two versions. It compares strings if one of them is not a
// version.
func Compare(a, b string) int {
	va, aerr := version.Parse(a)
	vb, berr := version.Parse(b)
	if aerr != nil || berr != nil {
		return strings.Compare(a, b)
	}
	return version.Compare(va, vb)
}

// Previous returns the version that a rollback returns to; "" for the base.
func (s *Store) Previous() string {
	link, err := os.Readlink(filepath.Join(s.dir(), PreviousName))
	if err != nil {
		return ""
	}
	return VersionOf(link)
}

// SetPrevious records, at the end of an operation, to which image a rollback returns: that of
// the extension link link, or the base for "". The image to which a rollback returned before
// is retired now, unless it is active.
func (s *Store) SetPrevious(link string) error {
	if err := s.retirePrevious(VersionOf(link)); err != nil {
		return err
	}
	path := filepath.Join(s.dir(), PreviousName)
	if err := rescue.MoveFolderAside(path); err != nil {
		return err
	}
	if link == "" {
		return atomicfile.Remove(path)
	}
	return atomicfile.Symlink(filepath.Base(link), path)
}

// A Target is what a rollback returns to.
type Target struct {
	Version string
	Base    bool
	Note    string // why the target is the base and not the previous version; "" if there is no previous version
}

func (t Target) String() string {
	if t.Base {
		return "the base, " + t.Version
	}
	return t.Version
}

// RollbackTarget returns what a rollback would return to: the previous version if
// its image can be activated, else the base. It fails if there is neither.
func (s *Store) RollbackTarget(ctx context.Context) (Target, error) {
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return Target{}, err
	}
	if link == "" {
		return Target{}, errkind.Errorf(errkind.Precondition, "there is nothing to return to: no extension of trident is active")
	}
	var note string
	if p := s.Previous(); p != "" && p != active {
		err := s.CheckActivatable(ctx, p)
		switch {
		case err == nil:
			return Target{Version: p}, nil
		case ctx.Err() != nil:
			return Target{}, err
		case !errors.Is(err, fs.ErrNotExist):
			note = fmt.Sprintf("the kept image of trident %s cannot be activated: %v", p, err)
		}
	}
	base, err := rescue.BaseVersion(s.Root)
	if err != nil {
		return Target{}, err
	}
	if base == "" && note != "" {
		return Target{Note: note}, errkind.Errorf(errkind.Precondition, "there is nothing to return to: this host has no base, and %s", note)
	}
	if base == "" {
		return Target{}, errkind.Errorf(errkind.Precondition,
			"there is nothing to return to: this host has no base, and trident %s is the only version in use", active)
	}
	if note != "" {
		note += fmt.Sprintf("; a rollback returns to the base, %s", base)
	}
	return Target{Version: base, Base: true, Note: note}, nil
}

// BaseIsNewer reports whether the base is at least as new as the active extension.
func (s *Store) BaseIsNewer() (base string, newer bool, err error) {
	base, err = rescue.BaseVersion(s.Root)
	if err != nil || base == "" {
		return "", false, err
	}
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil || link == "" || active == "" {
		return base, false, err
	}
	return base, Compare(base, active) >= 0, nil
}

// StagedVersion returns the version v if its image is in the store; for "" it
// returns the newest version that is not active.
func (s *Store) StagedVersion(v string) (string, error) {
	images, err := s.List()
	if err != nil {
		return "", err
	}
	for _, i := range slices.Backward(images) {
		if v == "" && !i.Active || v == i.Version {
			return i.Version, nil
		}
	}
	if v == "" {
		return "", errkind.WithHint(errkind.Errorf(errkind.NotFound, "no version is staged"), "stage one with: trident self stage SOURCE")
	}
	return "", errkind.WithHint(errkind.Errorf(errkind.NotFound, "version %.80q is not staged", v), "list the staged versions with: trident self status")
}

// MakeFolder makes a folder of the host and its parents, which every user can
// enter, whatever the umask.
func (s *Store) MakeFolder(name string) error {
	d, err := inroot.FS(s.Root).MakeDir(name, 0o755)
	if err != nil {
		return err
	}
	return d.Close()
}
