package selfservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/rescue"
)

// maxImage bounds an image of Trident, in bytes.
const maxImage = 1 << 30

// source is a fetch.Source in the journal.
type source struct {
	URL        string `json:"url"`
	Path       string `json:"path"`
	Upload     string `json:"upload"` // key of the upload in the process that received it
	UploadSize int64  `json:"upload_size"`
	SHA256     string `json:"sha256"`
	// Timeout bounds the step fetch, each time that a daemon begins it.
	Timeout time.Duration `json:"timeout"`
}

// checkSource returns an error for a source that no image of Trident can come from.
func checkSource(src fetch.Source) error {
	n := 0
	for _, given := range []bool{src.URL != "", src.Path != "", src.Upload != nil} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return errkind.Errorf(errkind.Invalid, "one source is needed (a URL, a path or an upload), not %d", n)
	case src.Path != "" && !filepath.IsAbs(src.Path):
		return errkind.Errorf(errkind.Invalid, "the path %.200q is not absolute", src.Path)
	case src.Timeout < 0:
		return errkind.Errorf(errkind.Invalid, "the timeout of the fetch, %s, must not be negative", src.Timeout)
	case src.Upload != nil && (src.UploadSize <= 0 || src.UploadSize > maxImage):
		return errkind.Errorf(errkind.Invalid, "the size of the upload, %d bytes, is not between 1 and %d", src.UploadSize, maxImage)
	}
	if src.URL != "" && !slices.Contains([]string{"http", "https", "oci"}, fetch.Scheme(src.URL)) {
		return errkind.Errorf(errkind.Invalid, "%s is not a URL of http, https or oci", src)
	}
	return nil
}

func (s *Service) partPath(id string) string { return filepath.Join(s.dir, id+".part") }

// fetch downloads the image into the store's folder, under a name that no other
// step reads.
func (s *Service) fetch(ctx context.Context, r *opRun) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	if err := s.checkHost(r.State); err != nil {
		return err
	}
	from := r.State.Source
	src, err := fetch.Source{URL: from.URL, Path: from.Path, UploadSize: from.UploadSize, SHA256: from.SHA256, Timeout: from.Timeout}.OnHost(s.Root)
	if err != nil {
		return err
	}
	if next, ok := s.uploads.Load(from.Upload); ok {
		src.Upload = next.(func(context.Context) ([]byte, error))
		defer s.uploads.Delete(from.Upload)
	}
	logLine := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	return s.touch("fetch", func() error {
		_, err := fetch.Download(ctx, src, s.partPath(r.ID), fetch.Limits{MaxSize: maxImage}, r.ProgressKept, logLine)
		return err
	})
}

func (s *Service) discard(_ context.Context, r *opRun) error {
	s.uploads.Delete(r.State.Source.Upload)
	return s.touch("discard", func() error { return fetch.Remove(s.partPath(r.ID)) })
}

// verify checks all of the image that can be checked without running it, and then
// publishes the image in the store.
func (s *Service) verify(ctx context.Context, r *opRun) error {
	if r.State.Note != "" {
		r.Logf(slog.LevelWarn, "%s", r.State.Note)
	}
	if r.State.Base {
		return nil
	}
	part := s.partPath(r.ID)
	path := part
	if _, err := os.Stat(part); r.State.Version != "" && errors.Is(err, fs.ErrNotExist) {
		path = s.imagePath(r.State.Version) // staged earlier, or by this operation before a restart
	}
	image, err := s.openFor(ctx, r.State, path, r.Progress)
	if err != nil {
		return err
	}
	defer image.Close()
	if w := s.dateWarning(image); w != "" {
		r.Logf(slog.LevelWarn, "%s", w)
	}
	if v := image.release.Version; r.State.Version != "" && v != r.State.Version {
		return errkind.Errorf(errkind.Corrupt, "the image %s.raw in the store has version %s", r.State.Version, v)
	}
	r.State.Version, r.State.RootHash = image.release.Version, image.rootHash
	if err := s.checkVersion(ctx, r.State); err != nil {
		return err
	}
	if path == part {
		return s.publish(ctx, r, image)
	}
	return nil
}

// openFor opens an image for an operation. The dates of its certificate count when
// the image comes to this host, at the time at which the caller began the
// operation: after a power cut the clock may be wrong.
func (s *Service) openFor(ctx context.Context, r record, path string, progress func(done, total int64)) (*image, error) {
	if path == s.imagePath(r.Version) || r.Back {
		return s.openVerified(ctx, path, progress)
	}
	return s.openNew(ctx, path, s.beginTime(r), progress)
}

// beginTime returns the time at which the caller began the operation. For records
// of earlier releases it returns the current time.
func (s *Service) beginTime(r record) time.Time {
	if r.Began.IsZero() {
		return s.now()
	}
	return r.Began
}

// checkVersion fails if the target must not replace the running version: see
// docs/self-servicing.md for the rules.
func (s *Service) checkVersion(ctx context.Context, r record) error {
	base, err := rescue.BaseVersion(s.Root)
	if err != nil && !r.Back { // a rollback works even if the file of the base is damaged
		return err
	}
	active, _, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return err
	}
	switch {
	case r.Version == active:
		return errkind.Errorf(errkind.Exists, "trident %s is active already", r.Version)
	case r.Version == r.From && base == r.From:
		return errkind.Errorf(errkind.Exists, "trident %s is the version of the base already", r.Version)
	case base != "" && compare(r.Version, base) <= 0:
		return errkind.Errorf(errkind.TooOld, "trident %s is not newer than the base, %s, and a base retires an extension that is not newer", r.Version, base)
	case !r.Trial.AllowDowngrade && compare(r.Version, r.From) < 0:
		return errkind.WithHint(errkind.Errorf(errkind.TooOld, "trident %s is older than the running version, %s", r.Version, r.From),
			"allow it with --allow-downgrade")
	case r.Back:
		return nil
	}
	b, err := s.blocked(ctx, r.Version)
	if err != nil || b == nil {
		return err
	}
	return errkind.WithHint(errkind.Errorf(errkind.Blocked, "trident %s failed on this host before: %s", r.Version, b.Reason),
		"allow another attempt with: trident self unblock %s", r.Version)
}

// publish renames a verified image to its name in the store. An image with the
// same version and root hash may exist: publish replaces it with itself, and
// unpublish keeps it.
func (s *Service) publish(ctx context.Context, r *opRun, i *image) error {
	path := s.imagePath(r.State.Version)
	storedHash := s.rootHash(r.State.Version)
	if storedHash != "" && storedHash != r.State.RootHash && r.State.Version == s.previous() {
		return errkind.Errorf(errkind.Exists, "the store keeps another image of trident %s for a rollback", r.State.Version)
	}
	if storedHash != r.State.RootHash {
		r.State.Published = true
	}
	if err := r.Save(ctx); err != nil {
		return err
	}
	// The record comes first, so that every image in the store has one.
	if err := s.writeImageRecord(i, s.beginTime(r.State)); err != nil {
		return err
	}
	if !i.isUnchanged() {
		return errkind.Errorf(errkind.Corrupt, "another process changed the image while Trident verified it")
	}
	return s.touch("publish", func() error {
		if err := os.Chmod(s.partPath(r.ID), 0o444); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := errors.Join(rescue.MoveFolderAside(path), os.Rename(s.partPath(r.ID), path)); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if err := atomicfile.SyncDir(s.dir); err != nil {
			return fmt.Errorf("publish image: %w", err)
		}
		if state, err := regfile.StateOf(i.file); err == nil { // its mode and name have changed
			s.intactImages.Store(path, intact{state, i.verified})
		}
		return fetch.Remove(s.partPath(r.ID)) // its side file
	})
}

// unpublish deletes the image from the store if this operation published it.
func (s *Service) unpublish(_ context.Context, r *opRun) error {
	if !r.State.Published {
		return nil
	}
	return s.touch("unpublish", func() error { return s.removeImage(r.State.Version) })
}
