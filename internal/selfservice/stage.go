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
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
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
	// MaxBytes, Size and Patches are those of fetch.Source. A release that does not know them
	// fetches the whole image, without a bound.
	MaxBytes int64   `json:"max_bytes,omitempty"`
	Size     int64   `json:"size,omitempty"`
	Patches  []patch `json:"patches,omitempty"`
}

// A patch is a fetch.Patch in the journal.
type patch struct {
	From   string `json:"from"`
	URL    string `json:"url"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// maxPatches bounds the patches of a source.
const maxPatches = 100

// sourceOf returns src without its upload.
func sourceOf(src fetch.Source) source {
	out := source{URL: src.URL, Path: src.Path, SHA256: src.SHA256, Timeout: src.Timeout, MaxBytes: src.MaxBytes, Size: src.Size}
	for _, p := range src.Patches {
		out.Patches = append(out.Patches, patch(p))
	}
	return out
}

// onHost returns the source as the host below root reads it, without its upload.
func (s source) onHost(root string) (fetch.Source, error) {
	out := fetch.Source{
		URL: s.URL, Path: s.Path, UploadSize: s.UploadSize, SHA256: s.SHA256, Timeout: s.Timeout, MaxBytes: s.MaxBytes, Size: s.Size,
	}
	for _, p := range s.Patches {
		out.Patches = append(out.Patches, fetch.Patch(p))
	}
	return out.OnHost(root)
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
	case src.MaxBytes < 0 || len(src.Patches) > maxPatches:
		return errkind.Errorf(errkind.Invalid, "a bound of %d bytes and %d patches; at least 0 and at most %d are possible", src.MaxBytes, len(src.Patches), maxPatches)
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
	src, err := from.onHost(s.Root)
	if err != nil {
		return err
	}
	if next, ok := s.uploads.Load(from.Upload); ok {
		src.Upload = next.(func(context.Context) ([]byte, error))
		defer s.uploads.Delete(from.Upload)
	}
	logLine := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	return s.touch("fetch", func() error {
		return s.images.Fetch(ctx, src, s.partPath(r.ID), s.beginTime(r.State), r.ProgressKept, logLine)
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
		path = s.images.Path(r.State.Version) // staged earlier, or by this operation before a restart
	}
	image, err := s.openFor(ctx, r.State, path, r.Progress)
	if err != nil {
		return err
	}
	defer image.Close()
	if w := s.images.DateWarning(image); w != "" {
		r.Logf(slog.LevelWarn, "%s", w)
	}
	if v := image.Release.Version; r.State.Version != "" && v != r.State.Version {
		return errkind.Errorf(errkind.Corrupt, "the image %s.raw in the store has version %s", r.State.Version, v)
	}
	r.State.Version, r.State.RootHash = image.Release.Version, image.RootHash
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
func (s *Service) openFor(ctx context.Context, r record, path string, progress func(done, total int64)) (*images.Opened, error) {
	if path == s.images.Path(r.Version) || r.Back {
		return s.images.OpenVerified(ctx, path, progress)
	}
	return s.images.OpenNew(ctx, path, s.beginTime(r), progress)
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
	case base != "" && images.Compare(r.Version, base) <= 0:
		return errkind.Errorf(errkind.TooOld, "trident %s is not newer than the base, %s, and a base retires an extension that is not newer", r.Version, base)
	case !r.Trial.AllowDowngrade && images.Compare(r.Version, r.From) < 0:
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
func (s *Service) publish(ctx context.Context, r *opRun, i *images.Opened) error {
	storedHash := s.images.RootHash(r.State.Version)
	if storedHash != "" && storedHash != r.State.RootHash && r.State.Version == s.images.Previous() {
		return errkind.Errorf(errkind.Exists, "the store keeps another image of trident %s for a rollback", r.State.Version)
	}
	if storedHash != r.State.RootHash {
		r.State.Published = true
	}
	if err := r.Save(ctx); err != nil {
		return err
	}
	return s.images.Publish(i, s.partPath(r.ID), s.beginTime(r.State))
}

// unpublish deletes the image from the store if this operation published it.
func (s *Service) unpublish(_ context.Context, r *opRun) error {
	if !r.State.Published {
		return nil
	}
	return s.touch("unpublish", func() error { return s.images.Remove(r.State.Version) })
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
	merged, err := s.images.MergedVersion()
	switch {
	case err != nil:
		return fmt.Errorf("remove image: %w", err)
	case v == active || v == merged:
		return errkind.Errorf(errkind.Precondition, "remove trident %s: it is active", v)
	case v == s.images.Previous():
		return errkind.Errorf(errkind.Precondition, "remove trident %s: a rollback returns to it", v)
	}
	return s.touch("remove image", func() error { return s.images.Remove(v) })
}

func (s *Service) stagedVersionExactly(v string) (string, error) {
	if v == "" {
		return "", errkind.Errorf(errkind.Invalid, "the version is missing")
	}
	return s.images.StagedVersion(v)
}
