package updates

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/version"
)

// CacheDir is the folder, below the root folder of the host, with what the host has learned of
// its feed. Without it a server could offer older metadata again.
const CacheDir = "var/lib/trident/updates"

// Config has all that a Service needs.
type Config struct {
	// Root is the root folder of the host, "/".
	Root string
	// Version is the version of this process.
	Version string
	// Policy returns the policy in effect: see [ReadConf] and [Merge].
	Policy func(context.Context) (Policy, error)
	// Self returns the versions of Trident on this host.
	Self func(context.Context) (Self, error)
	// Now is the clock of the host; nil is time.Now.
	Now func() time.Time
	// Logger gets faults of single releases of the feed, and of the cache.
	Logger *slog.Logger
}

// Self has the versions of Trident on this host.
type Self struct {
	Active string // the version that the extension link points to; "" for no link
	Base   string // the version of the package or the OS image; "" for none. Older ones are not accepted
	// Images are in the store, and may be the base of a patch.
	Images  []Image
	Blocked []Blocked
}

// An Image is an image of Trident in the store.
type Image struct{ Version, RootHash string }

// Blocked is a version that failed on this host.
type Blocked struct{ Version, Reason string }

// Service says which new version this host may take. Several goroutines may use it.
type Service struct {
	Config
	mu      sync.Mutex    // one check at a time
	timeout time.Duration // of the reading of the metadata; tests shorten it
}

// New makes the service. It does not look at the host or at the feed.
func New(c Config) *Service { return &Service{Config: c, timeout: checkTimeout} }

// A Report is the answer of Check.
type Report struct {
	Running string
	// Feed is the URL of the feed without its secrets, and Channel the channel.
	Feed, Channel string
	// Offer is the version that this host may take now; nil for none.
	Offer *Release
	// Others are the other versions of the channel, newest first. If the feed cannot be read or
	// trusted, they are those of the last good refresh.
	Others []Release
	// Reasons say why no version is offered, if that does not depend on a version.
	Reasons []Reason
	// Refreshed is when this host last read valid metadata, and Expires until when that
	// metadata is valid; zero for never.
	Refreshed, Expires time.Time
	// Auto is what Trident may do by itself with the offer at this time.
	Auto Auto
}

// A Release is one version in the channel.
type Release struct {
	Version string
	// Size is the size of the image, and TransferSize what the host would receive, in bytes.
	Size, TransferSize int64
	Published          time.Time
	Staged             bool // the image is in the store
	// Reasons say why the host does not take the version: every reason that holds.
	Reasons []Reason
}

// A Reason says why the host does not take a version, or why no version is offered.
type Reason struct {
	Kind Kind
	// Message is a sentence for people, without secrets.
	Message string
	// Until is when the reason ends; zero if that is unknown.
	Until time.Time
}

// Kind is the kind of a Reason.
type Kind string

// The kinds of reasons. The first five do not depend on a version.
const (
	NoFeed      Kind = "no-feed"          // the policy names no feed
	Unreachable Kind = "feed-unreachable" // the feed cannot be reached
	Stale       Kind = "feed-stale"       // the metadata has expired
	Untrusted   Kind = "feed-untrusted"   // the metadata is malformed, too large, rolled back, or not signed by a trusted key
	NoChannel   Kind = "no-channel"       // the feed does not have the channel

	Current      Kind = "current"       // the version runs, or is active
	TooOld       Kind = "too-old"       // older than the running version, or than the base
	IsBlocked    Kind = "blocked"       // the version failed on this host
	Architecture Kind = "architecture"  // the image is for another architecture
	OS           Kind = "os"            // the image is for another operating system
	Held         Kind = "held"          // the owner holds new versions back
	Pinned       Kind = "pinned"        // the owner has pinned another version
	InWindow     Kind = "window"        // the time is outside of the owner's window
	InWave       Kind = "wave"          // the release has not reached this host
	NeedsVersion Kind = "needs-version" // the host has to take another version first
	Superseded   Kind = "superseded"    // a newer version is offered
)

// checkTimeout bounds the reading of the metadata.
const checkTimeout = 2 * time.Minute

// Check reads the feed of the policy, and returns which version this host may take, and for
// each other version of the channel why not. It changes nothing but the cache. A feed that
// cannot be read or trusted is a reason in the report. Check fails if the policy is not valid,
// with errkind.Invalid, if the host cannot be read, or if ctx ends.
func (s *Service) Check(ctx context.Context) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The metadata of many releases takes some MiB. The daemon is idle after a check, and the
	// collector would return the memory late.
	defer debug.FreeOSMemory()
	a, err := s.ask(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("check for updates: %w", err)
	}
	return a.report(), nil
}

// ask reads the policy, the feed and the host.
func (s *Service) ask(ctx context.Context) (*answer, error) {
	a := &answer{now: s.now(), running: s.Version}
	var err error
	if a.policy, err = s.Policy(ctx); err != nil {
		return nil, err
	}
	if err = a.policy.Validate(); err != nil {
		return nil, err
	}
	if a.self, err = s.Self(ctx); err != nil {
		return nil, err
	}
	if a.host, err = hostinfo.Read(s.Root); err != nil {
		return nil, err
	}
	a.hostID = hostinfo.ID(s.Root)
	a.channel = cmp.Or(a.policy.Channel, defaultChannel)
	if a.policy.Feed == "" {
		a.addReason(NoFeed, "The policy of this host names no update feed; set one with: trident self policy set --feed URL")
		return a, nil
	}
	src, err := below(fetch.Source{URL: a.policy.Feed}, feed.Metadata)
	if err == nil {
		src, err = src.OnHost(s.Root)
	}
	if err != nil {
		return nil, err
	}
	timed, cancel := fetch.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := &client{
		ctx: timed, src: src, channel: a.channel, now: a.now, root: s.Root, logger: s.Logger,
		dir: filepath.Join(s.Root, CacheDir),
	}
	a.catalog, err = c.read()
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	return a, nil
}

// now returns the time of the host. A time before the date of this version's sources is wrong.
func (s *Service) now() time.Time {
	if s.Now == nil {
		return version.Clock(time.Now())
	}
	return s.Now()
}

// makeFolder makes the cache, which only root may read: the URL of a feed may be in it.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errkind.Errorf(errkind.Internal, "make the cache of the update feed: %w", err)
	}
	return nil
}
