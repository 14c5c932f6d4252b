// Package newext checks and places the extensions of the new OS in a slot.
package newext

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// Extensions has the extensions of the new OS of one host.
type Extensions struct{ *change.Host }

// unplaced returns the store for the extensions of the new system until its file
// systems exist.
func (x *Extensions) unplaced() *extension.Store {
	return &extension.Store{Root: filepath.Join(x.StagedDir(), "new-os"), Files: x.Root, Tools: x.Tools, Touch: x.Touch}
}

// Check fetches the extensions of the new system to this host, or unpacks them from its image, so that a
// missing or incompatible one fails before a disk changes. If this host has no room,
// "configure" fetches them. A rehearsal only asks servers whether they have them.
func (x *Extensions) Check(ctx context.Context, r *record.Run, e *record.Examined) error {
	err := x.unpackCarried(ctx, r, e)
	if err == nil {
		err = x.SpendingOn(e.Config, r.ID, func(list []extension.Source) error {
			return x.check(ctx, r, e, slices.DeleteFunc(list, isOwn))
		})
	}
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func isOwn(src extension.Source) bool { return src.Path == change.OwnPath }

// check is Check for the extensions list of the configuration, after those of the image are
// unpacked.
func (x *Extensions) check(ctx context.Context, r *record.Run, e *record.Examined, list []extension.Source) error {
	fromNetwork := slices.Clone(list)
	list = append(list, x.carriedSources(&r.State)...)
	if len(list) == 0 {
		return nil
	}
	store := x.unplaced()
	err := x.Touch("make room for extensions", func() error {
		lib := filepath.Join(store.Root, "usr/lib")
		err := os.MkdirAll(lib, 0o755)
		for _, dir := range []string{filepath.Dir(lib), lib} { // whatever the umask: extensions are compared with them
			err = errors.Join(err, os.Chmod(dir, 0o755))
		}
		return errors.Join(err, atomicfile.Write(filepath.Join(lib, "os-release"), []byte(e.Image.Metadata().OSRelease), 0o644))
	})
	if err == nil {
		err = store.Agree(ctx, fromNetwork, nil)
	}
	if err != nil {
		return err
	}
	var images []extension.Image
	for _, src := range list {
		if x.IsRehearsal() && fetch.Scheme(src.URL) != "file" {
			if err := x.isThere(ctx, src.URL); err != nil {
				return fmt.Errorf("look for the %s: %w", src.Class, err)
			}
			continue
		}
		image, err := store.Stage(ctx, src, nil, nil, func(line string) { r.Logf(slog.LevelInfo, "%s", line) })
		if errkind.Of(err) == errkind.NoSpace {
			r.Logf(slog.LevelWarn, "the extensions of the new system are checked only after its disk is written: %v", err)
			return x.Touch("discard extensions", func() error { return os.RemoveAll(store.Root) })
		}
		if err == nil && image.IsOwn() {
			err = x.ownListed(src)
		}
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	if _, err = extension.Plan(nil, images); err != nil && len(r.State.Carried) > 0 {
		err = fmt.Errorf("together with the extensions that the image carries: %w", err)
	}
	return err
}

// ownListed is the error for an image of Trident itself among the extensions.
func (x *Extensions) ownListed(src extension.Source) error {
	if x.isCarried(src) {
		return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "the image carries an image of Trident itself, which cannot be activated in a new system"),
			"Build the image without it; install Trident in the root file system, and upgrade it once the new system runs.")
	}
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "os.sysexts lists an image of Trident itself, which cannot be activated in a new system"),
		"Remove it from os.sysexts; upgrade Trident once the new system runs.")
}

// isThere asks a server for a file without fetching it. An answer from a server that does
// not serve ranges counts.
func (x *Extensions) isThere(ctx context.Context, from string) error {
	src, err := fetch.Source{URL: from}.OnHost(x.Root)
	if err != nil {
		return err
	}
	in, err := fetch.OpenRanges(ctx, src, fetch.Pin{}, fetch.Limits{Attempts: 1}, nil, nil)
	if errkind.Of(err) == errkind.Unsupported {
		return nil
	}
	if err != nil {
		return err
	}
	return in.Close()
}

// Place stages and links the extensions of the configuration, and those that the image
// carries, in the new OS. They have to be compatible with that OS.
func (x *Extensions) Place(ctx context.Context, r *record.Run, c *hostconfig.Config, root string) error {
	err := x.SpendingOn(c, r.ID, func(list []extension.Source) error {
		return x.placeAll(ctx, r, c, root, slices.DeleteFunc(list, isOwn)) // see setUpTrident for Trident's own
	})
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func (x *Extensions) placeAll(ctx context.Context, r *record.Run, c *hostconfig.Config, root string, list []extension.Source) error {
	store := &extension.Store{Root: root, Files: x.Root, Tools: x.Tools, Touch: x.Touch}
	say := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	var images []extension.Image
	units := map[string]bool{}
	for _, src := range append(list, x.carriedSources(&r.State)...) {
		fetched := x.unplaced()
		if here, err := fetched.Load(ctx, extension.Extension{Class: src.Class, Path: src.Path, SHA384: src.SHA384}); err == nil {
			src.URL = "file://" + x.OnHost(filepath.Join(fetched.Root, here.Stored())) // fetched by the step "image"
		}
		image, err := store.Stage(ctx, src, nil, nil, say)
		if err != nil {
			return err
		}
		if image.IsOwn() {
			return x.ownListed(src)
		}
		images = append(images, image)
		units["systemd-"+string(src.Class)+".service"] = true
	}
	current, err := store.Find(append(change.RecordedExtensions(c), r.State.CarriedExtensions()...))
	if err != nil {
		return err
	}
	change, err := extension.Plan(current, images)
	if err != nil {
		return err
	}
	if err := store.Place(ctx, change); err != nil {
		return err
	}
	r.State.Extensions = change
	for unit := range units {
		if err := x.enableIn(ctx, root, unit); err != nil {
			return err
		}
	}
	return nil
}

// enableIn enables a unit in the OS in a tree.
func (x *Extensions) enableIn(ctx context.Context, root, unit string) error {
	return x.Touch("enable "+unit, func() error { return osconfig.Systemctl(ctx, x.Tools, root, "enable", unit) })
}
