package updating

import (
	"context"
	"net/url"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/updates/settings"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// A Finder finds new versions in the update feed and in the incoming folder.
type Finder interface {
	Source(ctx context.Context, version string) (src fetch.Source, found string, err error)
	Incoming() (fetch.Source, error)
}

// A Server answers the calls.
type Server struct {
	Settings settings.Settings
	// Finder may be nil: then nothing is offered.
	Finder Finder
}

// CheckUpdates says which version the host may take, and why not for the others.
func (s *Server) CheckUpdates(context.Context) (*selfv1.CheckUpdatesResponse, error) {
	return nil, errkind.Errorf(errkind.Unsupported, "check for updates: this version of Trident cannot read an update feed yet")
}

// FeedSource returns the source of a version that the feed offers, the one that CheckUpdates
// offers for "". Its bound is that of the policy.
func (s *Server) FeedSource(ctx context.Context, version string) (fetch.Source, error) {
	if s.Finder == nil {
		return fetch.Source{}, errkind.Errorf(errkind.Unsupported, "read the update feed: this version of Trident cannot do so yet")
	}
	src, _, err := s.Finder.Source(ctx, version)
	if u, perr := url.Parse(src.URL); err == nil && perr == nil && u.Scheme == "file" {
		src.URL, src.Path = "", u.Path
	}
	return src, err
}

// IncomingSource returns the newest image in the incoming folder.
func (s *Server) IncomingSource() (fetch.Source, error) {
	if s.Finder == nil {
		return fetch.Source{}, errkind.Errorf(errkind.Unsupported, "read the incoming folder: this version of Trident cannot do so yet")
	}
	return s.Finder.Incoming()
}
