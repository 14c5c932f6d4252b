package runtime

import (
	"context"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// fetch stores what finalizing needs: images in the store of extensions, and copies of
// the files that the configuration names as sources. Finalizing needs no server then.
func (s *Service) fetch(ctx context.Context, r *opRun, w comparison) error {
	if err := s.copySources(ctx, w); err != nil {
		return err
	}
	ctx, cancel := fetch.WithTimeout(ctx, change.FetchTimeout(w.asked))
	defer cancel()
	return s.resolve(ctx, r, w)
}

// resolve fetches the images that the store lacks, and computes the change of extensions.
func (s *Service) resolve(ctx context.Context, r *opRun, w comparison) error {
	err := s.SpendingOn(change.WithPaths(w.asked, w.old), r.ID, func(sources []extension.Source) error {
		return s.resolveExtensions(ctx, r, w, sources)
	})
	if err == nil {
		r.State.Resolved = true
	}
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func (s *Service) resolveExtensions(ctx context.Context, r *opRun, w comparison, sources []extension.Source) error {
	current, err := s.Extensions.Find(change.RecordedExtensions(w.old))
	if err == nil {
		err = s.Extensions.Agree(ctx, sources, current)
	}
	if err != nil {
		return err
	}
	var images, own []extension.Image
	say := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	for _, src := range sources {
		if src.Path == change.OwnPath {
			src.Path = "" // selfservice, not the store, decides the path of Trident's image
		}
		came := false
		progress := func(done, total int64) {
			came = true
			r.ProgressKept(done, total)
		}
		image, err := s.Extensions.Stage(ctx, src, current, progress, say)
		if err != nil {
			return err
		}
		if came { // the store has it: no step fetches it again
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

// resolveOwn prepares the upgrade of Trident to the image in the list. The right hash is
// not enough: selfservice verifies the image as for any upgrade of Trident.
func (s *Service) resolveOwn(ctx context.Context, r *opRun, own []extension.Image) error {
	r.State.Own, r.State.Upgrade = "", false
	switch {
	case len(own) > 1:
		return errkind.Errorf(errkind.Invalid, "the configuration has two images of trident itself: %s and %s", own[0].Extension().SHA384, own[1].Extension().SHA384)
	case len(own) == 0:
		return nil
	}
	image := own[0]
	version, active, err := s.Self.CheckFile(ctx, image.Stored(), r.State.Purpose == goesBack)
	if err != nil {
		return err
	}
	r.State.Own = image.Extension().SHA384
	if active {
		r.Logf(slog.LevelInfo, "trident %s runs already", version)
		return nil
	}
	if r.State.Self, err = s.Self.NewFileRecord(image.Stored(), r.State.Purpose == goesBack); err != nil {
		return err
	}
	r.State.Upgrade = true
	return nil
}

func (s *Service) copySources(ctx context.Context, w comparison) error {
	return errkind.WithName(s.CopySources(ctx, w.sources()), errkind.NameInvalidHostConfigurationDynamic)
}

// sources returns the paths of the files that finalizing will read.
func (w comparison) sources() []string {
	scripts := w.asked.Spec().Scripts
	on := hostconfig.OnRuntimeUpdate
	return change.SourcesOf(w.change.Files.Write, slices.Concat(hooks.Of(scripts.PreServicing, on), hooks.Of(scripts.PostConfigure, on)))
}
