package updates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

const releasesFile = "releases.json"

// lastReleases is the file with the releases of the last good refresh. The host shows them
// while the feed cannot be read, and does not offer one of them then.
type lastReleases struct {
	Channel  string    `json:"channel"`
	Releases []offered `json:"releases"`
	// Proof says which metadata the releases come from (see proofOf); "" in files of earlier
	// versions of Trident.
	Proof string `json:"proof,omitempty"`
	// Version and Expires are those of the channel's metadata.
	Version int64     `json:"version,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// proofOf returns a hash of all that the releases of a channel depend on: the metadata of the
// channel, that of targets, which has the keys of the channel, and the version of Trident.
func proofOf(trident string, targets, channel []byte) string {
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(trident), targets, channel} {
		one := sha256.Sum256(part)
		sum.Write(one[:])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// last returns the releases of the channel at the last good refresh; none without the file.
func (c *cache) last(channel string) (out lastReleases) {
	data, err := c.file(releasesFile)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.logger.Warn("the cache of the update feed is damaged", "file", filepath.Join(c.dir, releasesFile), "error", err)
	}
	if err != nil || out.Channel != channel {
		return lastReleases{}
	}
	return out
}

// unchanged returns the releases of the last refresh if they are those of set, whose snapshot
// and targets are verified: then the metadata of the channel, which takes the longest to
// verify, was verified before with the same keys. It returns false if that is not certain.
func (c *client) unchanged(set trustedmetadata.TrustedMetadata, cache *cache) (lastReleases, bool) {
	file := c.channel + ".json"
	info := set.Snapshot.Signed.Meta[file]
	last := cache.last(c.channel)
	if info == nil || info.Version != last.Version || !last.Expires.After(c.now) {
		return lastReleases{}, false
	}
	targets, err := os.ReadFile(filepath.Join(cache.work, "targets.json"))
	if err != nil {
		return lastReleases{}, false
	}
	channel, err := cache.file(file)
	if err != nil || info.VerifyLengthHashes(channel) != nil || last.Proof != proofOf(c.trident, targets, channel) {
		return lastReleases{}, false
	}
	return last, true
}

// keepReleases returns the releases of the channel in set, and stores them. The metadata of
// set must be in the cache.
func (c *client) keepReleases(set trustedmetadata.TrustedMetadata, cache *cache) (lastReleases, error) {
	signed := set.Targets[c.channel].Signed
	out := lastReleases{Channel: c.channel, Releases: c.releases(set), Version: signed.Version, Expires: signed.Expires.UTC()}
	targets, err := cache.file("targets.json")
	if err != nil {
		return out, err
	}
	channel, err := cache.file(c.channel + ".json")
	if err != nil {
		return out, err
	}
	out.Proof = proofOf(c.trident, targets, channel)
	return out, cache.writeJSON(releasesFile, out)
}
