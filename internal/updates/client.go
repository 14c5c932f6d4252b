package updates

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/fetch"
)

// The largest files of metadata, in bytes. A server can make the daemon parse files of this
// size before a signature counts, which takes some ten times as much memory.
const (
	maxRootFile      = 128 << 10
	maxTimestampFile = 16 << 10
	maxSnapshotFile  = 256 << 10
	maxTargetsFile   = feed.MaxChannel
)

// A client reads the metadata of a feed once.
type client struct {
	ctx     context.Context
	src     fetch.Source // the URL or the folder of the metadata
	channel string
	trident string // the version of this process
	now     time.Time
	root    string // the root folder of the host
	dir     string // the cache
	logger  *slog.Logger
	// got has the files of metadata that were fetched, and last is the name of the last one.
	got  map[string][]byte
	last string
}

// A catalog is what the host knows of the channel.
type catalog struct {
	releases []offered
	// faults say why nothing of it may be offered; the releases may then be old ones.
	faults []Reason
	// refreshed is when the host last read valid metadata, and expires until when that
	// metadata is valid.
	refreshed, expires time.Time
}

// An offered release is one image in the channel. The cache has it as JSON.
type offered struct {
	feed.Release
	Path   string `json:"path"` // below the URL of the feed
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// read refreshes the metadata and reads the channel. Faults of the feed are in the catalog;
// an error is a fault of this host.
func (c *client) read() (catalog, error) {
	cache, err := openCache(c.root, c.dir, c.logger)
	if fault, ok := errors.AsType[untrustedRoot](err); ok {
		return catalog{faults: []Reason{{Kind: Untrusted, Message: sentence(fault)}}}, nil
	}
	if err != nil {
		return catalog{}, err
	}
	set, err := c.refresh(cache)
	var last lastReleases
	known := false
	if err == nil {
		err = guard(func() error {
			if last, known = c.unchanged(set, cache); known {
				return nil
			}
			return c.loadChannel(set, cache)
		})
	}
	if kept := cache.keep(set, c.got); kept != nil {
		return catalog{}, kept
	}
	if err == nil {
		if !known {
			if last, err = c.keepReleases(set, cache); err != nil {
				return catalog{}, err
			}
		}
		out := catalog{releases: last.Releases, refreshed: c.now.UTC(), expires: expiry(set, last.Expires)}
		return out, cache.keepRefresh(out)
	}
	reason, fault := c.explain(err, set)
	if fault != nil {
		return catalog{}, fault
	}
	out := catalog{faults: []Reason{reason}, refreshed: cache.state.Refreshed, expires: cache.state.Expires}
	if reason.Kind != NoChannel {
		out.releases = cache.last(c.channel).Releases
	}
	if expires := out.expires; !expires.IsZero() && !expires.After(c.now) && reason.Kind != Stale {
		out.faults = append(out.faults, staleSince(expires, c.now))
	}
	return out, nil
}

// newUpdater makes go-tuf's updater over the working copy of the cache.
func (c *client) newUpdater(cache *cache) (*updater.Updater, error) {
	cfg, err := config.New("https://feed.invalid/"+feed.Metadata, cache.trusted)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = cache.work, cache.work
	cfg.PrefixTargetsWithHash = false
	cfg.RootMaxLength, cfg.TimestampMaxLength, cfg.SnapshotMaxLength, cfg.TargetsMaxLength = maxRootFile, maxTimestampFile, maxSnapshotFile, maxTargetsFile
	cfg.Fetcher = c
	return updater.New(cfg)
}

// guard returns a panic of do as an error: go-tuf trusts metadata that is signed to be complete.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the metadata lacks a part that it must have (%v)", p)
		}
	}()
	return do()
}

// refresh runs the client workflow of The Update Framework (section 5 of its specification)
// for the roles that every feed has. It returns the trusted metadata also after a failure.
func (c *client) refresh(cache *cache) (trustedmetadata.TrustedMetadata, error) {
	u, err := c.newUpdater(cache)
	if err != nil {
		return trustedmetadata.TrustedMetadata{}, err
	}
	u.UnsafeSetRefTime(c.now)
	err = guard(u.Refresh)
	return u.GetTrustedMetadataSet(), err
}

// errNoChannel says that the metadata does not delegate the channel.
var errNoChannel = errors.New("the feed does not have the channel")

// loadChannel adds the metadata of the channel's role to set.
func (c *client) loadChannel(set trustedmetadata.TrustedMetadata, cache *cache) error {
	file := c.channel + ".json"
	info, listed := set.Snapshot.Signed.Meta[file]
	if delegation(set, c.channel) == nil || !listed {
		return errNoChannel
	}
	if data, err := cache.file(file); err == nil {
		if _, err := set.UpdateDelegatedTargets(data, c.channel, metadata.TARGETS); err == nil {
			return nil
		}
	}
	name, most := file, int64(maxTargetsFile)
	if set.Root.Signed.ConsistentSnapshot {
		name = strconv.FormatInt(info.Version, 10) + "." + file
	}
	if info.Length > 0 {
		most = min(most, info.Length)
	}
	data, err := c.DownloadFile(name, most, 0)
	if err != nil {
		return err
	}
	_, err = set.UpdateDelegatedTargets(data, c.channel, metadata.TARGETS)
	return err
}

// delegation returns the role of a channel; nil if the feed does not have it.
func delegation(set trustedmetadata.TrustedMetadata, channel string) *metadata.DelegatedRole {
	targets := set.Targets[metadata.TARGETS]
	if targets == nil || targets.Signed.Delegations == nil {
		return nil
	}
	for i, role := range targets.Signed.Delegations.Roles {
		if role.Name == channel {
			return &targets.Signed.Delegations.Roles[i]
		}
	}
	return nil
}

// A fetchError is a failure to fetch a file of metadata.
type fetchError struct{ error }

func (e fetchError) Unwrap() error { return e.error }

// DownloadFile fetches a file of metadata for go-tuf, which knows its URL by the last word
// only: the real one may have a password.
func (c *client) DownloadFile(url string, most int64, _ time.Duration) ([]byte, error) {
	name := path.Base(url)
	c.last, most = name, min(most, maxTargetsFile)
	src, err := below(c.src, name)
	if err != nil {
		return nil, fetchError{err}
	}
	data, err := fetch.Read(c.ctx, src, most)
	if err == nil {
		if c.got == nil {
			c.got = map[string][]byte{}
		}
		c.got[name] = data
		return data, nil
	}
	if bounds := []int64{maxRootFile, maxTimestampFile, maxSnapshotFile, maxTargetsFile}; errkind.Of(err) == errkind.TooLarge && !slices.Contains(bounds, most) {
		return nil, &metadata.ErrLengthOrHashMismatch{Msg: fmt.Sprintf("it has more than the announced %d bytes", most)}
	}
	// Servers such as S3 answer 403 for a file that does not exist. A server that hides the
	// next root could as well answer 404.
	if kind := errkind.Of(err); isRoot(name) && (kind == errkind.NotFound || kind == errkind.Denied) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}
	}
	return nil, fetchError{err}
}
