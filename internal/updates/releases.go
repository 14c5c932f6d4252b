package updates

import (
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/trident-project/trident/internal/feed"
)

// maxReleases is the most releases of a channel; the others are ignored.
const maxReleases = 4096

// releases returns the releases of the channel in set. It logs and leaves out those with a
// fault, and those that the role of the channel may not sign.
func (c *client) releases(set trustedmetadata.TrustedMetadata) []offered {
	role, targets := delegation(set, c.channel), set.Targets[c.channel].Signed.Targets
	var out []offered
	for name, target := range targets {
		if len(out) == maxReleases {
			break
		}
		one, err := releaseOf(c.channel, name, target)
		if ok, _ := role.IsDelegatedPath(name); !ok && err == nil {
			err = errors.New("the role of the channel may not sign this path")
		}
		if err != nil {
			c.logger.Warn("the update feed has a release that is ignored", "path", name, "error", err)
			continue
		}
		out = append(out, one)
	}
	return out
}

// releaseOf returns the release of one target.
func releaseOf(channel, name string, target *metadata.TargetFiles) (offered, error) {
	image, err := feed.ParseImagePath(name)
	if err != nil {
		return offered{}, err
	}
	if target == nil || target.Custom == nil {
		return offered{}, errors.New("the target has no custom metadata")
	}
	r, err := feed.ParseRelease(*target.Custom)
	sum := target.Hashes["sha256"]
	switch {
	case err != nil:
		return offered{}, err
	case image != feed.ImageName{Channel: channel, Architecture: r.Architecture, Version: r.Version}:
		return offered{}, fmt.Errorf("the path does not fit the channel %s, the version %s and the architecture %s", channel, r.Version, r.Architecture)
	case len(sum) != 32 || target.Length <= 0:
		return offered{}, errors.New("the target has no SHA-256 or no size")
	}
	for _, p := range r.Patches {
		if patch, err := feed.ParsePatchPath(p.Path); err != nil || patch.Channel != channel {
			return offered{}, fmt.Errorf("the patch %q is not in the channel", p.Path)
		}
	}
	return offered{Release: r, Path: name, Size: target.Length, SHA256: fmt.Sprintf("%x", []byte(sum))}, nil
}
