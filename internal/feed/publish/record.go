package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// maxRecord is the most bytes of a record.
const maxRecord = 64 << 20

// A record says what the feed is to have, and what was published last. Its JSON form is shared
// between versions: add fields, never rename, remove or retype one.
type record struct {
	Channels map[string]*channel `json:"channels"`
	// Files has the metadata that was written last, by role; also if a crash prevented it.
	Files map[string]metaFile `json:"files"`
	// Withdrawn are paths in the feed that the next Publish deletes.
	Withdrawn []string `json:"withdrawn,omitempty"`
}

// A channel is one delegated role.
type channel struct {
	// Key is the public key, in hexadecimal digits.
	Key string `json:"key"`
	// Images are by their path in the feed.
	Images map[string]*Image `json:"images"`
}

// An Image is an image of the feed.
type Image struct {
	Size    int64        `json:"size"`
	SHA256  string       `json:"sha256"`
	Release feed.Release `json:"release"`
}

// A metaFile is one version of the metadata of a role.
type metaFile struct {
	Version int64     `json:"version"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Content string    `json:"content"` // a hash of all but version and expiry
	Expires time.Time `json:"expires"`
}

func readRecord(name string) (*record, error) {
	data, err := regfile.ReadFile(name, maxRecord)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "read the record of the feed: %w", err), "Name the key folder that trident feed init has made.")
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of the feed: %w", err)
	}
	r := newRecord()
	if err := json.Unmarshal(data, r); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read the record of the feed %s: %w", name, err)
	}
	return r, r.check(name)
}

func newRecord() *record {
	return &record{Channels: map[string]*channel{}, Files: map[string]metaFile{}}
}

// check proves what the other functions rely on.
func (r *record) check(name string) error {
	for c, ch := range r.Channels {
		if err := feed.CheckChannel(c); err != nil {
			return errkind.With(errkind.Corrupt, fmt.Errorf("read the record of the feed %s: %w", name, err))
		}
		if ch == nil {
			return errkind.Errorf(errkind.Corrupt, "read the record of the feed %s: channel %s is null", name, c)
		}
		for path, image := range ch.Images {
			at, err := feed.ParseImagePath(path)
			if err == nil && image == nil {
				err = errors.New("it is null")
			}
			if err == nil {
				err = image.Release.Check()
			}
			if err == nil && at != (feed.ImageName{Channel: c, Architecture: image.Release.Architecture, Version: image.Release.Version}) {
				err = errors.New("path and release differ")
			}
			if err != nil {
				return errkind.Errorf(errkind.Corrupt, "read the record of the feed %s: image %q: %w", name, path, err)
			}
		}
	}
	for _, path := range r.Withdrawn {
		_, notImage := feed.ParseImagePath(path)
		_, notPatch := feed.ParsePatchPath(path)
		if notImage != nil && notPatch != nil {
			return errkind.Errorf(errkind.Corrupt, "read the record of the feed %s: withdrawn %q: %w", name, path, notImage)
		}
	}
	return nil
}

func (r *record) bytes() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil && len(data) > maxRecord {
		err = errkind.Errorf(errkind.TooLarge, "the record of the feed has %d bytes, at most %d are permitted", len(data), maxRecord)
	}
	return append(data, '\n'), err
}

func (r *record) channels() []string { return slices.Sorted(maps.Keys(r.Channels)) }

// channel returns the channel of that name, which must exist.
func (r *record) channel(name string) (*channel, error) {
	if ch, ok := r.Channels[name]; ok {
		return ch, nil
	}
	return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "the feed has no channel %q", name),
		"It has %q. trident feed add --new-channel makes another one.", r.channels())
}

// images returns the images of a channel for an architecture, by path.
func (c *channel) images(architecture string) map[string]*Image {
	out := map[string]*Image{}
	for path, image := range c.Images {
		if image.Release.Architecture == architecture {
			out[path] = image
		}
	}
	return out
}

// architectures returns the architectures of the images of a channel, sorted.
func (c *channel) architectures() []string {
	all := map[string]bool{}
	for _, image := range c.Images {
		all[image.Release.Architecture] = true
	}
	return slices.Sorted(maps.Keys(all))
}
