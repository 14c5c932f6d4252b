package publish

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/patch"
	"github.com/trident-project/trident/internal/version"
)

// PatchOptions say between which images Patch makes patches.
type PatchOptions struct {
	// Channel is a channel; "" means every one.
	Channel string
	// To is the version that the patches make; "" means the newest of each channel and
	// architecture.
	To string
	// Last is from how many of the versions before it.
	Last int
}

// A Patched is a patch of the feed.
type Patched struct {
	feed.Patch
	To string `json:"to"`
	// ImageSize is what a host without the patch fetches, in bytes.
	ImageSize int64 `json:"imageSize"`
	// Made is false if the feed had the patch already.
	Made bool `json:"made"`
	// Skipped says why the feed has no patch; then there is none.
	Skipped string `json:"skipped,omitempty"`
}

// Patch makes patches to a version from the last versions before it. It applies each patch once,
// and compares the result. A patch that is not smaller than the image is skipped. Publish
// makes hosts see the others. doing gets the name of each patch before progress gets its bytes.
func (p *Publisher) Patch(ctx context.Context, o PatchOptions, doing func(path string), progress Progress) ([]Patched, error) {
	names := p.record.channels()
	if o.Channel != "" {
		if _, err := p.record.channel(o.Channel); err != nil {
			return nil, fmt.Errorf("make patches: %w", err)
		}
		names = []string{o.Channel}
	}
	if o.Last < 1 || o.Last > feed.MaxPatches {
		return nil, errkind.Errorf(errkind.Invalid, "make patches: the number of versions, %d, is not between 1 and %d", o.Last, feed.MaxPatches)
	}
	all := []Patched{}
	for _, name := range names {
		for _, arch := range p.record.Channels[name].architectures() {
			made, err := p.patchesTo(ctx, name, arch, o, doing, progress)
			all = append(all, made...)
			if err != nil {
				return all, fmt.Errorf("make patches of channel %s for %s: %w", name, arch, err)
			}
		}
	}
	if len(all) == 0 && o.To != "" {
		return nil, errkind.Errorf(errkind.NotFound, "make patches: no channel of %q has version %s and one before it", names, o.To)
	}
	return all, nil
}

// patchesTo makes the patches of one channel and architecture.
func (p *Publisher) patchesTo(ctx context.Context, channel, arch string, o PatchOptions, doing func(string), progress Progress) ([]Patched, error) {
	var list []*Image
	for _, image := range p.record.Channels[channel].images(arch) {
		list = append(list, image)
	}
	slices.SortFunc(list, func(a, b *Image) int { return compareVersions(a.Release.Version, b.Release.Version) })
	at := len(list) - 1
	if o.To != "" {
		at = slices.IndexFunc(list, func(i *Image) bool { return i.Release.Version == o.To })
	}
	if at < 1 {
		return nil, nil
	}
	var out []Patched
	var fresh []byte
	for _, from := range list[max(0, at-o.Last):at] {
		if done, ok := has(list[at], from.Release.Version); ok {
			out = append(out, Patched{Patch: done, To: list[at].Release.Version, ImageSize: list[at].Size})
			continue
		}
		var err error
		if fresh == nil {
			if fresh, err = p.payload(channel, list[at]); err != nil {
				return out, err
			}
		}
		made, err := p.patchFrom(ctx, channel, from, list[at], fresh, doing, progress)
		if err != nil {
			return out, err
		}
		out = append(out, made)
	}
	return out, nil
}

// compareVersions orders versions by precedence, then by text, so that the order is total.
func compareVersions(a, b string) int {
	va, errA := version.Parse(a)
	vb, errB := version.Parse(b)
	if errA != nil || errB != nil {
		return strings.Compare(a, b)
	}
	return cmp.Or(version.Compare(va, vb), strings.Compare(a, b))
}

func has(image *Image, from string) (feed.Patch, bool) {
	i := slices.IndexFunc(image.Release.Patches, func(p feed.Patch) bool { return p.From == from })
	if i < 0 {
		return feed.Patch{}, false
	}
	return image.Release.Patches[i], true
}

// payload reads an image of the feed, and compares it with the record.
func (p *Publisher) payload(channel string, image *Image) ([]byte, error) {
	at := feed.ImagePath(channel, image.Release.Architecture, image.Release.Version)
	data, err := regfile.ReadFile(filepath.Join(p.dir, at), maxImage)
	if err != nil {
		return nil, err
	}
	if sum(data) != image.SHA256 {
		return nil, errkind.Errorf(errkind.Corrupt, "%s is not as it was added: its SHA-256 is another", at)
	}
	return data, nil
}

func (p *Publisher) patchFrom(ctx context.Context, channel string, from, to *Image, fresh []byte, doing func(string), progress Progress) (Patched, error) {
	old, err := p.payload(channel, from)
	if err != nil {
		return Patched{}, err
	}
	out := Patched{To: to.Release.Version, ImageSize: to.Size}
	out.From = from.Release.Version
	out.Path = feed.PatchPath(channel, to.Release.Architecture, from.Release.Version, to.Release.Version)
	doing(out.Path)
	if err := p.touch("write " + out.Path); err != nil {
		return out, err
	}
	err = atomicfile.FillFunc(filepath.Join(p.dir, out.Path), 0o644, func(f *os.File) error {
		hash := sha256.New()
		if err := patch.Make(ctx, old, fresh, io.MultiWriter(f, hash), progress); err != nil {
			return err
		}
		out.SHA256 = hex.EncodeToString(hash.Sum(nil))
		if out.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
		if out.Size >= to.Size {
			return errNotSmaller
		}
		return provePatch(ctx, old, f, to)
	})
	if errors.Is(err, errNotSmaller) {
		out.Skipped = errNotSmaller.Error()
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Made = true
	to.Release.Patches = append(to.Release.Patches, out.Patch)
	slices.SortFunc(to.Release.Patches, func(a, b feed.Patch) int { return compareVersions(a.From, b.From) })
	if len(to.Release.Patches) > feed.MaxPatches {
		return out, errkind.Errorf(errkind.TooLarge, "version %s has more than %d patches", to.Release.Version, feed.MaxPatches)
	}
	p.record.Withdrawn = slices.DeleteFunc(p.record.Withdrawn, func(w string) bool { return w == out.Path })
	return out, p.save()
}

var errNotSmaller = errors.New("the patch is not smaller than the image")

// provePatch applies the patch in f, and compares the result with the image.
func provePatch(ctx context.Context, old []byte, f *os.File, to *Image) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	hash := sha256.New()
	if err := patch.Apply(ctx, old, f, to.Size, hash); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != to.SHA256 {
		return errkind.Errorf(errkind.Internal, "the patch makes another image than %s", to.Release.Version)
	}
	return nil
}
