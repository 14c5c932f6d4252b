package runtime

import (
	"context"
	"log/slog"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// fetch brings to the host what it has not: images into the store of extensions,
// and copies of files that the configuration names as sources, so that finalizing
// depends on nobody else.
func (s *Service) fetch(ctx context.Context, r *opRun) error {
	w, err := r.State.compare()
	if err != nil {
		return err
	}
	if err := s.CopySources(ctx, w.sources()); err != nil {
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	ctx, cancel := change.FetchTime(ctx, w.asked)
	defer cancel()
	return s.resolve(ctx, r, w)
}

// resolve makes sure that all images are in the store, and works out what changes
// among the extensions.
func (s *Service) resolve(ctx context.Context, r *opRun, w comparison) error {
	err := s.resolveExtensions(ctx, r, w)
	if err == nil {
		r.State.Resolved = true
	}
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func (s *Service) resolveExtensions(ctx context.Context, r *opRun, w comparison) error {
	current, err := s.Extensions.Find(change.RecordedExtensions(w.old))
	if err != nil {
		return err
	}
	var images, own []extension.Image
	say := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	for _, src := range change.ExtensionSources(change.WithPaths(w.asked, w.old)) {
		if src.Path == change.OwnPath {
			src.Path = "" // where the image of Trident is, is not for the store to say
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

// sources are the files that the finalizing of a change will read.
func (w comparison) sources() []string {
	scripts := w.asked.Spec().Scripts
	on := hostconfig.OnRuntimeUpdate
	return change.SourcesOf(w.change.Files.Write, slices.Concat(hooks.Of(scripts.PreServicing, on), hooks.Of(scripts.PostConfigure, on)))
}
