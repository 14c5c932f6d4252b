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
	// Self returns the versions of Trident on this host, and what p permits it to do.
	Self func(ctx context.Context, p Policy) (Self, error)
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
	// Failed is the last stage or activation of a version, if it failed; else nil.
	Failed *Failed
	// Unfit says why this host could not activate any version by itself with the consent of
	// the policy; nil if it could.
	Unfit error
}

// Failed is an attempt to stage or activate a version that failed.
type Failed struct {
	Version string // "" if the image was not read
	SHA256  string // of the image; "" if it was not known before
	Kind    errkind.Kind
	Message string
	At      time.Time
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

// Places returns the absolute paths of the folders of a host that this package uses.
func Places() []string { return []string{"/" + CacheDir, "/" + IncomingDir} }

// New makes the service. It does not look at the host or at the feed.
func New(c Config) *Service { return &Service{Config: c, timeout: checkTimeout} }

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
	if a.self, err = s.Self(ctx, a.policy); err != nil {
		return nil, err
	}
	a.channel = cmp.Or(a.policy.Channel, defaultChannel)
	if a.policy.Feed == "" {
		a.addReason(NoFeed, "The policy of this host names no update feed; set one with: trident self policy set --feed URL")
		return a, nil
	}
	if a.host, err = hostinfo.Read(s.Root); err != nil {
		return nil, err
	}
	a.hostID = hostinfo.ID(s.Root)
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
		ctx: timed, src: src, channel: a.channel, trident: s.Version, now: a.now, root: s.Root, logger: s.Logger,
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
