package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/trust"
	"github.com/trident-project/trident/internal/version"
)

// maxImage is the most bytes of an image; hosts fetch no larger one.
const maxImage = 1 << 30

// Progress gets the bytes done so far, and in total.
type Progress func(done, total int64)

// AddOptions say where an image is added, and for whom.
type AddOptions struct {
	Channel string
	// NewChannel permits Add to make the channel.
	NewChannel bool
	// After is the version that a host must run at least; "" for every version.
	After string
	// Wave, if not nil, delays the release on a part of the hosts.
	Wave *feed.Wave
	// Trust has the certificates of which one must have signed the image; nil accepts every
	// image, also one without a signature, because hosts check the signature again.
	Trust *trust.Policy
}

// Added is an image that Add has added.
type Added struct {
	// Path is the image below the feed folder.
	Path string `json:"path"`
	// Changed is false if the channel had the image already, with the same options.
	Changed bool `json:"changed"`
	// Signed says whether the image has a signature; without one no host takes it.
	Signed bool `json:"signed"`
	Image
}

// Add copies an image into a channel. It reads the whole copy, and fails if the image is damaged,
// not an image of Trident, or has the version of another image of the channel: a published
// version never changes. For an image that the channel has, Add replaces After and Wave.
// Publish makes hosts see it.
func (p *Publisher) Add(ctx context.Context, file string, o AddOptions, progress Progress) (Added, error) {
	out, err := p.add(ctx, file, o, progress)
	if err != nil {
		return Added{}, fmt.Errorf("add %s: %w", file, err)
	}
	return out, nil
}

func (p *Publisher) add(ctx context.Context, file string, o AddOptions, progress Progress) (Added, error) {
	if _, ok := p.record.Channels[o.Channel]; !ok && o.NewChannel {
		if err := p.newChannel(o.Channel); err != nil {
			return Added{}, err
		}
	}
	c, err := p.record.channel(o.Channel)
	if err != nil {
		return Added{}, err
	}
	f, err := regfile.Open(file)
	if err != nil {
		return Added{}, err
	}
	defer f.Close()
	r, img, err := releaseOf(f)
	if err != nil {
		return Added{}, err
	}
	r.After, r.Wave, r.Published = o.After, o.Wave, p.now
	if err := r.Check(); err != nil {
		return Added{}, err
	}
	at := feed.ImagePath(o.Channel, r.Architecture, r.Version)
	old := c.Images[at]
	if old != nil && old.Release.RootHash != r.RootHash {
		return Added{}, errkind.WithHint(errkind.Errorf(errkind.Exists, "channel %s has another image of version %s", o.Channel, r.Version),
			"A published version does not change. Build the image with a new version.")
	}
	image, err := p.copyIn(ctx, f, at, o.Trust, progress)
	if err != nil {
		return Added{}, err
	}
	if old != nil && image.SHA256 != old.SHA256 {
		return Added{}, errkind.WithHint(errkind.Errorf(errkind.Exists, "channel %s has version %s with another signature", o.Channel, r.Version),
			"Hosts compare the whole file. Withdraw the version first, or build the image with a new version.")
	}
	out := Added{Path: at, Changed: old == nil, Signed: img.Signature() != nil}
	if old != nil {
		r.Published, r.Patches = old.Release.Published, old.Release.Patches
		out.Changed = r.After != old.Release.After || !sameWave(r.Wave, old.Release.Wave)
	}
	image.Release = r
	out.Image = image
	c.Images[at] = &image
	p.record.Withdrawn = slices.DeleteFunc(p.record.Withdrawn, func(w string) bool { return w == at })
	return out, p.save()
}

func sameWave(a, b *feed.Wave) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.First == b.First && a.Begin.Equal(b.Begin) && a.End.Equal(b.End)
}

// releaseOf reads from an image what the feed says of it.
func releaseOf(f *os.File) (feed.Release, *ddi.Image, error) {
	info, err := f.Stat()
	if err != nil {
		return feed.Release{}, nil, err
	}
	if info.Size() > maxImage {
		return feed.Release{}, nil, errkind.Errorf(errkind.TooLarge, "it has %d bytes, an image at most %d", info.Size(), int64(maxImage))
	}
	img, err := ddi.Open(f, info.Size())
	if err != nil {
		return feed.Release{}, nil, err
	}
	tree, err := img.FS() // nobody has verified the image, so it is not mounted
	if err != nil {
		return feed.Release{}, nil, err
	}
	r, err := extension.CheckImage(img, tree)
	if err != nil {
		return feed.Release{}, nil, err
	}
	if r.Name != extension.Own {
		return feed.Release{}, nil, errkind.WithHint(errkind.Errorf(errkind.Incompatible, "it is an image of the extension %q, not of %q", r.Name, extension.Own),
			"A feed has images of Trident only.")
	}
	if _, err := version.Parse(r.Version); err != nil {
		return feed.Release{}, nil, errkind.Errorf(errkind.Invalid, "its SYSEXT_VERSION_ID: %w", err)
	}
	return feed.Release{
		Version: r.Version, Architecture: string(img.Arch()), RootHash: ddi.HashString(img.RootHash()),
		OS: feed.OS{ID: r.ID, VersionID: r.VersionID, SysextLevel: r.SysextLevel},
	}, img, nil
}

// copyIn copies f to its path in the feed, unless the same file is there, and verifies the copy.
func (p *Publisher) copyIn(ctx context.Context, f *os.File, at string, policy *trust.Policy, progress Progress) (Image, error) {
	to := filepath.Join(p.dir, at)
	if err := p.mkdir(filepath.Dir(to), 0o755); err != nil {
		return Image{}, err
	}
	var out Image
	err := atomicfile.FillFunc(to, 0o644, func(w *os.File) error {
		hash := sha256.New()
		size, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(&ctxReader{ctx, f}, maxImage))
		if err != nil {
			return err
		}
		out = Image{Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))}
		r, img, err := releaseOf(w)
		if err != nil {
			return err
		}
		if filepath.Base(at) != filepath.Base(feed.ImagePath("x", r.Architecture, r.Version)) {
			return errors.New("the file changed while it was being read")
		}
		if policy == nil {
			return img.VerifyTree(ctx, progress)
		}
		_, err = policy.Verify(ctx, img, version.Clock(p.now), progress)
		return err
	})
	return out, err
}

// ctxReader ends with the error of its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// Withdraw takes a version out of a channel, or, if channel is "", out of every channel, and
// returns the paths of its images. Hosts take it no more after the next Publish, which deletes the
// files. A host that runs the version keeps it.
func (p *Publisher) Withdraw(channel, v string) ([]string, error) {
	names := p.record.channels()
	if channel != "" {
		if _, err := p.record.channel(channel); err != nil {
			return nil, fmt.Errorf("withdraw %s: %w", v, err)
		}
		names = []string{channel}
	}
	var gone []string
	for _, name := range names {
		c := p.record.Channels[name]
		for at, image := range c.Images {
			if image.Release.Version != v {
				continue
			}
			gone = append(gone, at)
			for _, patch := range image.Release.Patches {
				p.record.Withdrawn = append(p.record.Withdrawn, patch.Path)
			}
			delete(c.Images, at)
		}
	}
	if len(gone) == 0 {
		return nil, errkind.Errorf(errkind.NotFound, "withdraw %q: no channel of %q has this version", v, names)
	}
	slices.Sort(gone)
	p.record.Withdrawn = append(p.record.Withdrawn, gone...)
	return gone, p.save()
}
