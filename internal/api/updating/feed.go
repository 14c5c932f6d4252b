package updating

import (
	"context"
	"net/url"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/updates/settings"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// A Finder finds new versions in the update feed and in the incoming folder. *updates.Service
// is one.
type Finder interface {
	Check(ctx context.Context) (updates.Report, error)
	Source(ctx context.Context, version string) (src fetch.Source, found string, err error)
	Incoming() (fetch.Source, error)
}

// A Server answers the calls.
type Server struct {
	Settings settings.Settings
	Finder   Finder
}

// CheckUpdates says which version the host may take, and why not for the others.
func (s *Server) CheckUpdates(ctx context.Context) (*selfv1.CheckUpdatesResponse, error) {
	report, err := s.Finder.Check(ctx)
	if err != nil {
		return nil, err
	}
	return reportToWire(report), nil
}

// FeedSource returns the source of a version that the feed offers, the one that CheckUpdates
// offers for "". Its bound is that of the policy.
func (s *Server) FeedSource(ctx context.Context, version string) (fetch.Source, error) {
	src, _, err := s.Finder.Source(ctx, version)
	if u, perr := url.Parse(src.URL); err == nil && perr == nil && u.Scheme == "file" {
		src.URL, src.Path = "", u.Path
	}
	return src, err
}

// IncomingSource returns the newest image in the incoming folder.
func (s *Server) IncomingSource() (fetch.Source, error) { return s.Finder.Incoming() }
