package servicing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
)

// fetch brings to the host what it has not: images into the store of extensions,
// and copies of files that the configuration names as sources, so that finalizing
// depends on nobody else.
func (s *Service) fetch(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	if err := s.copySources(ctx, w.sources()); err != nil {
		return errkind.WithName(err, dynamic)
	}
	ctx, cancel := fetchTime(ctx, w.asked)
	defer cancel()
	return s.resolve(ctx, r, w)
}

// dynamic is upstream's name of a configuration that does not fit the host.
const dynamic = errkind.NameInvalidHostConfigurationDynamic

// resolve makes sure that all images are in the store, and works out what changes
// among the extensions.
func (s *Service) resolve(ctx context.Context, r *opRun, w work) error {
	err := s.resolveExtensions(ctx, r, w)
	if err == nil {
		r.State.Resolved = true
	}
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func (s *Service) resolveExtensions(ctx context.Context, r *opRun, w work) error {
	current, err := s.extensions.Find(recorded(w.old))
	if err != nil {
		return err
	}
	var images, own []extension.Image
	say := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	for _, src := range wanted(withPaths(w.asked, w.old)) {
		if src.Path == ownPath {
			src.Path = "" // where the image of Trident is, is not for the store to say
		}
		came := false
		progress := func(done, total int64) {
			came = true
			r.ProgressKept(done, total)
		}
		image, err := s.extensions.Stage(ctx, src, current, progress, say)
		if err != nil {
			return err
		}
		if came { // it is in the store, and will not come again
			if err := r.Checkpoint(ctx); err != nil {
				return err
			}
		}
		if image.IsOwn() {
			own = append(own, image)
		} else {
			images = append(images, image)
		}
	}
	if r.State.Extensions, err = extension.Plan(current, images); err != nil {
		return err
	}
	return s.resolveOwn(ctx, r, own)
}

// resolveOwn prepares the upgrade of Trident to the image that is listed. That it
// came by the hash that was asked for is not enough: who may replace the agent is
// for its own trust to say.
func (s *Service) resolveOwn(ctx context.Context, r *opRun, own []extension.Image) error {
	r.State.Own, r.State.Upgrade = "", false
	switch {
	case len(own) > 1:
		return errkind.Errorf(errkind.Invalid, "two images of trident itself are listed: %s and %s", own[0].Extension().SHA384, own[1].Extension().SHA384)
	case len(own) == 0:
		return nil
	}
	image := own[0]
	version, active, err := s.Self.CheckFile(ctx, image.Stored(), r.State.Back)
	if err != nil {
		return err
	}
	r.State.Own = image.Extension().SHA384
	if active {
		r.Logf(slog.LevelInfo, "trident %s runs already", version)
		return nil
	}
	if r.State.Self, err = s.Self.NewFileRecord(image.Stored(), r.State.Back); err != nil {
		return err
	}
	r.State.Upgrade = true
	return nil
}

// A source is a copy of a file that a configuration names.
type source struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	// Mode is that of the file, in octal digits. It is "" in lists of older releases.
	Mode string `json:"mode,omitempty"`
}

const manifestName = "sources.json"

// sources are the files that the finalizing of a change will read.
func (w work) sources() []string {
	scripts := w.asked.Spec().Scripts
	on := hostconfig.OnRuntimeUpdate
	return sourcesOf(w.change.Files.Write, slices.Concat(hooks(scripts.PreServicing, on), hooks(scripts.PostConfigure, on)))
}

func sourcesOf(files []hostconfig.AdditionalFile, scripts []hostconfig.Script) []string {
	var out []string
	for _, f := range files {
		if f.Source != "" {
			out = append(out, absolute(f.Source))
		}
	}
	for _, h := range scripts {
		if h.Path != "" {
			out = append(out, absolute(h.Path))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// copied is where the copy of a source is.
func (s *Service) copied(name string) string {
	sum := sha256.Sum256([]byte(absolute(name)))
	return filepath.Join(s.stagedDir(), hex.EncodeToString(sum[:]))
}

func (s *Service) copySources(ctx context.Context, names []string) error {
	err := s.touch("make staged folder", func() error {
		return errors.Join(os.RemoveAll(s.stagedDir()), os.MkdirAll(s.stagedDir(), 0o700))
	})
	if err != nil {
		return fmt.Errorf("make staged folder: %w", err)
	}
	var list []source
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errkind.With(errkind.Cancelled, err)
		}
		var copied source
		err := s.touch("copy source", func() (err error) {
			copied, err = s.copySource(name)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		list = append(list, copied)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return s.touch("write list of sources", func() error {
		return atomicfile.Write(filepath.Join(s.stagedDir(), manifestName), text, 0o600)
	})
}

// copySource copies a file that a configuration names, not one that a user of the host
// has put a link to in its place.
func (s *Service) copySource(name string) (source, error) {
	dir, base, err := inroot.FS(s.Root).Target(name)
	if _, dangling := errors.AsType[*inroot.DanglingError](err); dangling || errors.Is(err, fs.ErrNotExist) {
		return source{}, errkind.With(errkind.Invalid, err)
	}
	if err != nil {
		return source{}, err
	}
	defer dir.Close()
	if info, err := dir.Lstat(base); err != nil {
		return source{}, err
	} else if !info.Mode().IsRegular() {
		return source{}, errkind.Errorf(errkind.Invalid, "it is not a regular file")
	}
	f, err := dir.Open(base)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return source{}, err
	case info.Size() > osconfig.MaxFile:
		return source{}, errkind.Errorf(errkind.TooLarge, "it has %d bytes, and %d are allowed", info.Size(), osconfig.MaxFile)
	}
	h := sha256.New()
	err = atomicfile.WriteFunc(s.copied(name), 0o600, func(w io.Writer) error {
		_, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(f, osconfig.MaxFile))
		return err
	})
	return source{name, hex.EncodeToString(h.Sum(nil)), fmt.Sprintf("%04o", info.Mode().Perm())}, err
}

// copies are the sources that are copied.
func (s *Service) copies() ([]source, error) {
	text, err := inroot.FS(s.stagedDir()).ReadFile(manifestName, 16<<20)
	var list []source
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	return list, err
}

// checkSources looks whether the copies are what they were when they were made.
func (s *Service) checkSources(names []string) error {
	list, err := s.copies()
	if errors.Is(err, fs.ErrNotExist) && len(names) == 0 {
		return nil
	}
	for _, name := range names {
		i := slices.IndexFunc(list, func(l source) bool { return l.Path == name })
		if i < 0 || err != nil {
			err = errors.Join(err, errors.New("there is no copy of "+name))
			break
		}
		err = s.checkSource(list[i])
	}
	if err != nil {
		return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "look at what is staged: %w", err), "Stage the update again.")
	}
	return nil
}

func (s *Service) checkSource(l source) error {
	f, err := os.Open(s.copied(l.Path))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != l.SHA256 {
		return fmt.Errorf("the copy of %s has changed", l.Path)
	}
	return nil
}

// contentMode is that of an additional file with its content in the configuration, if it
// has no permissions there.
const contentMode = 0o664

// modeOf is what an additional file may be used for: what the configuration says, or
// else what its source was used for when it was copied.
func (s *Service) modeOf(f hostconfig.AdditionalFile) (fs.FileMode, error) {
	digits := f.Permissions
	if digits == "" {
		if f.Content != nil {
			return contentMode, nil
		}
		list, err := s.copies()
		if err != nil {
			return 0, err
		}
		i := slices.IndexFunc(list, func(l source) bool { return l.Path == absolute(f.Source) })
		if i < 0 || list[i].Mode == "" { // copied by a release that gave all files the same one
			return contentMode, nil
		}
		digits = list[i].Mode
	}
	n, err := strconv.ParseUint(digits, 8, 9)
	if err != nil {
		return 0, errkind.Errorf(errkind.Invalid, "its permissions: %w", err)
	}
	return fs.FileMode(n), nil
}

// content opens what an additional file shall have.
func (s *Service) content(f hostconfig.AdditionalFile, w io.Writer) error {
	if f.Content != nil {
		_, err := io.WriteString(w, *f.Content)
		return err
	}
	in, err := os.Open(s.copied(f.Source))
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}
