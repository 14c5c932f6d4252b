package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/version"
)

// retirePrevious records in the record of the previous image that a rollback does not return
// to it any more, unless the image is active or has the version next. An image without a
// record stays a staged one.
func (s *Store) retirePrevious(next string) error {
	v := s.Previous()
	k, ok := s.readRecord(v)
	active, _, err := rescue.LinkedVersion(s.Root)
	if v == "" || v == next || v == active || !ok || err != nil {
		return nil
	}
	k.Retired = s.Now().UTC()
	return s.replaceRecord(v, k)
}

// Prune keeps the active image, the previous one, the newest staged one, and for grace the
// one that was retired last. It deletes all other images, records and partial downloads. A
// negative grace means for ever.
func (s *Store) Prune(grace time.Duration) error {
	errs := []error{s.pruneImages(grace), s.pruneRecords()}
	parts, err := filepath.Glob(filepath.Join(s.dir(), "*.part*"))
	errs = append(errs, err)
	for _, p := range parts {
		errs = append(errs, discard(p))
	}
	return errors.Join(errs...)
}

// ReplaceStaged deletes the staged images that are older than version v.
func (s *Store) ReplaceStaged(v string) error {
	images, err := s.List()
	errs := []error{err}
	for _, i := range images {
		if !i.Active && !i.Previous && i.Retired.IsZero() && Compare(i.Version, v) < 0 {
			errs = append(errs, s.Remove(i.Version))
		}
	}
	return errors.Join(errs...)
}

// pruneImages deletes the images that Prune deletes.
func (s *Store) pruneImages(grace time.Duration) error {
	images, err := s.List()
	errs := []error{err, s.PruneRetired(grace)}
	newest := true
	for _, i := range slices.Backward(images) {
		if i.Active || i.Previous || !i.Retired.IsZero() {
			continue
		}
		if !newest {
			errs = append(errs, s.Remove(i.Version))
		}
		newest = false
	}
	return errors.Join(errs...)
}

// PruneRetired deletes the retired images, except the one that was retired last, which stays
// for grace. A negative grace means for ever.
func (s *Store) PruneRetired(grace time.Duration) error {
	images, err := s.List()
	if err != nil {
		return err
	}
	images = slices.DeleteFunc(images, func(i Image) bool { return i.Retired.IsZero() })
	slices.SortStableFunc(images, func(a, b Image) int { return b.Retired.Compare(a.Retired) })
	var errs []error
	for n, i := range images {
		if n > 0 || s.isOver(i.Retired, grace) {
			errs = append(errs, s.Remove(i.Version))
		}
	}
	return errors.Join(errs...)
}

// isOver reports whether the grace of an image is over that was retired at t.
func (s *Store) isOver(t time.Time, grace time.Duration) bool {
	return grace >= 0 && !s.Now().Before(t.Add(grace))
}

// pruneRecords deletes the records of deleted images, and temporary files of
// records from before a power cut.
func (s *Store) pruneRecords() error {
	entries, err := os.ReadDir(s.dir())
	errs := []error{err}
	for _, e := range entries {
		v, ok := strings.CutSuffix(e.Name(), ".json")
		if _, err := version.Parse(v); !ok || err != nil {
			continue
		}
		errs = append(errs, atomicfile.Sweep(s.recordPath(v)))
		if _, err := os.Lstat(s.Path(v)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, discard(s.recordPath(v)))
		}
	}
	return errors.Join(errs...)
}
