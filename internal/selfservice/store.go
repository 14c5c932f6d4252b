package selfservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/version"
)

// Names in the store's folder besides the images, <version>.raw.
const (
	previousName = "previous" // a link to the image that a rollback returns to
	probeDir     = "probe"
	evidenceDir  = "evidence"
)

// evidenceKept is the number of failures whose evidence stays in the store.
const evidenceKept = 10

// journalDepth is the number of operations in the journal that pruneEvidence reads.
const journalDepth = 1000

// An Image is one version in the store.
type Image struct {
	Version, RootHash string
	Size              int64
	Staged            time.Time
	// Active says that the extension link points to the image, Previous that a
	// rollback returns to it.
	Active, Previous bool
}

func (s *Service) imagePath(v string) string { return filepath.Join(s.dir, v+".raw") }

// linkTo returns the target of the extension link for a version. It is relative,
// so that it is right inside and outside of a root folder.
func (s *Service) linkTo(v string) string {
	return filepath.Join("..", strings.TrimPrefix(rescue.Dir, "var/lib/"), v+".raw")
}

// images lists the store, oldest version first.
func (s *Service) images() ([]Image, error) {
	entries, err := os.ReadDir(s.dir)
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
	previous := s.previous()
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
		out = append(out, Image{
			Version: v, RootHash: s.rootHash(v), Size: fi.Size(), Staged: fi.ModTime().UTC(), Active: v == active, Previous: v == previous,
		})
	}
	slices.SortFunc(out, func(a, b Image) int { return compare(a.Version, b.Version) })
	return out, nil
}

// rootHash returns the root hash of an image in the store, or "" if the file is
// missing or is not an image.
func (s *Service) rootHash(v string) string {
	f, err := regfile.Open(s.imagePath(v))
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

// compare compares two versions. It compares strings if one of them is not a
// version.
func compare(a, b string) int {
	va, aerr := version.Parse(a)
	vb, berr := version.Parse(b)
	if aerr != nil || berr != nil {
		return strings.Compare(a, b)
	}
	return version.Compare(va, vb)
}

// previous returns the version that a rollback returns to; "" for the base.
func (s *Service) previous() string {
	link, err := os.Readlink(filepath.Join(s.dir, previousName))
	if err != nil {
		return ""
	}
	return versionOfImage(link)
}

// setPrevious records, at the end of an operation, which image a rollback returns
// to.
func (s *Service) setPrevious(r record) error {
	path := filepath.Join(s.dir, previousName)
	if err := rescue.MoveFolderAside(path); err != nil {
		return err
	}
	if r.Back || r.Previous.Link == "" {
		return atomicfile.Remove(path)
	}
	return atomicfile.Symlink(filepath.Base(r.Previous.Link), path)
}

// A target is what a rollback returns to.
type target struct {
	version string
	base    bool
	note    string // why the target is the base and not the previous version; "" if there is no previous version
}

func (t target) String() string {
	if t.base {
		return "the base, " + t.version
	}
	return t.version
}

// rollbackTarget returns what a rollback would return to: the previous version if
// its image can be activated, else the base. It fails if there is neither.
func (s *Service) rollbackTarget(ctx context.Context) (target, error) {
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return target{}, err
	}
	if link == "" {
		return target{}, errkind.Errorf(errkind.Precondition, "there is nothing to return to: no extension of trident is active")
	}
	var note string
	if p := s.previous(); p != "" && p != active {
		err := s.checkActivatable(ctx, p)
		switch {
		case err == nil:
			return target{version: p}, nil
		case ctx.Err() != nil:
			return target{}, err
		case !errors.Is(err, fs.ErrNotExist):
			note = fmt.Sprintf("the kept image of trident %s cannot be activated: %v", p, err)
		}
	}
	base, err := rescue.BaseVersion(s.Root)
	if err != nil {
		return target{}, err
	}
	if base == "" && note != "" {
		return target{note: note}, errkind.Errorf(errkind.Precondition, "there is nothing to return to: this host has no base, and %s", note)
	}
	if base == "" {
		return target{}, errkind.Errorf(errkind.Precondition,
			"there is nothing to return to: this host has no base, and trident %s is the only version in use", active)
	}
	if note != "" {
		note += fmt.Sprintf("; a rollback returns to the base, %s", base)
	}
	return target{version: base, base: true, note: note}, nil
}

// baseIsNewer reports whether the base is at least as new as the active extension.
func (s *Service) baseIsNewer() (base string, newer bool, err error) {
	base, err = rescue.BaseVersion(s.Root)
	if err != nil || base == "" {
		return "", false, err
	}
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil || link == "" || active == "" {
		return base, false, err
	}
	return base, compare(base, active) >= 0, nil
}

// stagedVersion returns the version v if its image is in the store; for "" it
// returns the newest version that is not active.
func (s *Service) stagedVersion(v string) (string, error) {
	images, err := s.images()
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

// Remove deletes the image of version v from the store. It fails if the image is
// active, merged, or the target of a rollback, or if an operation is running.
func (s *Service) Remove(ctx context.Context, v string) error {
	if id, busy := s.Runner.Active(); busy {
		return errkind.Errorf(errkind.Busy, "remove trident %s: operation %s is running", v, id)
	}
	v, err := s.stagedVersionExactly(v)
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	active, _, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	merged, err := s.mergedVersion()
	switch {
	case err != nil:
		return fmt.Errorf("remove image: %w", err)
	case v == active || v == merged:
		return errkind.Errorf(errkind.Precondition, "remove trident %s: it is active", v)
	case v == s.previous():
		return errkind.Errorf(errkind.Precondition, "remove trident %s: a rollback returns to it", v)
	}
	return s.touch("remove image", func() error { return s.removeImage(v) })
}

func (s *Service) stagedVersionExactly(v string) (string, error) {
	if v == "" {
		return "", errkind.Errorf(errkind.Invalid, "the version is missing")
	}
	return s.stagedVersion(v)
}

// prune keeps the active image, the previous one and the newest staged one, and
// deletes all other images, records and partial downloads.
func (s *Service) prune() error {
	images, err := s.images()
	if err != nil {
		return err
	}
	var errs []error
	newest := true
	for _, i := range slices.Backward(images) {
		if i.Active || i.Previous {
			continue
		}
		if !newest {
			errs = append(errs, s.removeImage(i.Version))
		}
		newest = false
	}
	errs = append(errs, s.pruneRecords())
	parts, err := filepath.Glob(filepath.Join(s.dir, "*.part*"))
	errs = append(errs, err)
	for _, p := range parts {
		errs = append(errs, discard(p))
	}
	return errors.Join(append(errs, s.pruneEvidence(), s.sweep())...)
}

// pruneRecords deletes the records of deleted images, and temporary files of
// records from before a power cut.
func (s *Service) pruneRecords() error {
	entries, err := os.ReadDir(s.dir)
	errs := []error{err}
	for _, e := range entries {
		v, ok := strings.CutSuffix(e.Name(), ".json")
		if _, err := version.Parse(v); !ok || err != nil {
			continue
		}
		errs = append(errs, atomicfile.Sweep(s.recordPath(v)))
		if _, err := os.Lstat(s.imagePath(v)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, discard(s.recordPath(v)))
		}
	}
	return errors.Join(errs...)
}

// sweep deletes temporary files from before a power cut. The caller has ended the
// trial, so that no other process writes them.
func (s *Service) sweep() error {
	var errs []error
	for _, path := range []string{rescue.Link, bootUnitPath, bootWantsPath, rescue.Dir + "/" + previousName, rescue.Program} {
		errs = append(errs, atomicfile.Sweep(filepath.Join(s.Root, path)))
	}
	return errors.Join(errs...)
}

// pruneEvidence deletes all but the newest folders of evidence. The journal says which
// are the newest, because the name of a folder begins with the time of a clock that may
// have been set back since. A folder of an operation that the journal has forgotten is
// older than all others.
func (s *Service) pruneEvidence() error {
	dir := filepath.Join(s.dir, evidenceDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) <= evidenceKept {
		return nil
	}
	ops, lerr := s.Runner.List(context.Background(), journalDepth, false)
	if err := errors.Join(err, lerr); err != nil {
		return fmt.Errorf("prune evidence: %w", err)
	}
	age := func(e fs.DirEntry) int { // 0 is the newest
		if i := slices.IndexFunc(ops, func(op operation.Operation) bool { return op.ID == e.Name() }); i >= 0 {
			return i
		}
		return len(ops)
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(age(b), age(a)) })
	var errs []error
	for _, e := range entries[:len(entries)-evidenceKept] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
