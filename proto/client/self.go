package client

import (
	"context"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	"github.com/trident-project/trident/proto/wire"
)

// A Source says where an image comes from: one of URL, Path, Upload, Image, Feed and Incoming.
type Source struct {
	URL  string // http or https; for Stage and Upgrade also oci
	Path string // an absolute path on the host
	// Upload has Size bytes, which the verb reads. After an error one more Read may
	// follow the return of the verb.
	Upload io.Reader
	Size   int64
	// Image is an open image of Trident, on the same connection.
	Image *Image
	// Feed is the host's update feed, for Stage and Upgrade. Version is one that CheckUpdates
	// returned; empty, it is the version on offer.
	Feed    bool
	Version string
	// Incoming is the newest image in the host's folder /var/lib/trident/incoming, for Stage
	// and Upgrade.
	Incoming bool
	// MaxBytes bounds what Stage and Upgrade may receive over the network for the image; 0 is
	// the bound of the host's policy for Feed, and else no bound.
	MaxBytes int64
	// SHA256 of the whole file, 64 hexadecimal digits; optional. The daemon checks the
	// signature in any case.
	SHA256 string
	// SHA384 of the whole file, 96 digits, for OpenImage, which does not accept SHA256.
	SHA384 string
	// FetchTimeout bounds the download of the URL; 0 is no limit.
	FetchTimeout time.Duration
}

// message returns the source for calls over one link. It fails if Image was opened over
// another.
func (s Source) message(l *link) (*selfv1.Source, error) {
	m := &selfv1.Source{Sha256: s.SHA256}
	if s.FetchTimeout != 0 {
		if err := l.require(wire.FetchTimeout); err != nil {
			return nil, err
		}
		m.FetchTimeout = durationpb.New(s.FetchTimeout)
	}
	if s.Feed || s.Incoming || s.MaxBytes != 0 {
		if err := l.require(wire.UpdateFeed); err != nil {
			return nil, err
		}
		m.MaxBytes = s.MaxBytes
	}
	switch {
	case s.Feed:
		m.From = &selfv1.Source_Feed{Feed: &selfv1.FeedVersion{Version: s.Version}}
	case s.Incoming:
		m.From = &selfv1.Source_Incoming{Incoming: &selfv1.Incoming{}}
	case s.Image != nil:
		handle, err := s.Image.on(l)
		if err != nil {
			return nil, err
		}
		m.From = &selfv1.Source_ImageHandle{ImageHandle: handle}
	case s.Upload != nil:
		m.From = &selfv1.Source_Upload{Upload: &selfv1.Upload{Size: s.Size}}
	case s.Path != "":
		m.From = &selfv1.Source_Path{Path: s.Path}
	default:
		m.From = &selfv1.Source_Url{Url: s.URL}
	}
	return m, nil
}

// requireFor fails if the daemon lacks what a trial needs.
func (l *link) requireFor(trial *Trial) error {
	if trial.GetPause() == selfv1.Pause_PAUSE_UNSPECIFIED {
		return nil
	}
	return l.require(wire.Pause)
}

func (c *Client) self() selfv1.SelfServiceClient { return selfv1.NewSelfServiceClient(c.Conn()) }

// Status returns the running version of Trident, its origin, and the other versions on
// the host.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return c.self().GetStatus(ctx, &selfv1.GetStatusRequest{})
}

// History returns at most limit operations on Trident (0: a default), newest first.
func (c *Client) History(ctx context.Context, limit int32) ([]*HistoryEntry, error) {
	resp, err := c.self().History(ctx, &selfv1.HistoryRequest{Limit: limit})
	return resp.GetEntries(), err
}

// Unblock permits a version that failed on the host to be tried again.
func (c *Client) Unblock(ctx context.Context, version string) error {
	_, err := c.self().Unblock(ctx, &selfv1.UnblockRequest{Version: version})
	return err
}

// Remove deletes a staged image.
func (c *Client) Remove(ctx context.Context, version string) error {
	_, err := c.self().Remove(ctx, &selfv1.RemoveRequest{Version: version})
	return err
}

// Stage has the daemon fetch, verify, probe and keep an image. Events and errors are
// those of Watch.
func (c *Client) Stage(ctx context.Context, source Source, allowDowngrade bool, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, source, fn, func(ctx context.Context, l *link) (*call, error) {
		from, err := source.message(l)
		if err != nil {
			return nil, err
		}
		stream, err := selfv1.NewSelfServiceClient(l.conn).Stage(ctx)
		if err != nil {
			return nil, err
		}
		send := func(chunk []byte) error {
			return stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Chunk{Chunk: chunk}})
		}
		start := &selfv1.StageRequest_Start{Source: from, AllowDowngrade: allowDowngrade}
		return &call{ClientStream: stream, next: events(stream.Recv), send: send}, begun(stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: start}}))
	})
}

// Upgrade installs a new version and waits until the daemon keeps it or rolls it back. A
// nil trial has the defaults. Events and errors are those of Watch.
func (c *Client) Upgrade(ctx context.Context, source Source, trial *Trial, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, source, fn, func(ctx context.Context, l *link) (*call, error) {
		from, err := source.message(l)
		if err == nil {
			err = l.requireFor(trial)
		}
		if err != nil {
			return nil, err
		}
		stream, err := selfv1.NewSelfServiceClient(l.conn).Upgrade(ctx)
		if err != nil {
			return nil, err
		}
		send := func(chunk []byte) error {
			return stream.Send(&selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Chunk{Chunk: chunk}})
		}
		start := &selfv1.UpgradeRequest_Start{Source: from, Trial: trial}
		return &call{ClientStream: stream, next: events(stream.Recv), send: send}, begun(stream.Send(&selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Start_{Start: start}}))
	})
}

// Activate is Upgrade to a staged version, the newest one if version is empty.
func (c *Client) Activate(ctx context.Context, version string, trial *Trial, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, Source{}, fn, func(ctx context.Context, l *link) (*call, error) {
		if err := l.requireFor(trial); err != nil {
			return nil, err
		}
		stream, err := selfv1.NewSelfServiceClient(l.conn).Activate(ctx, &selfv1.ActivateRequest{Version: version, Trial: trial})
		if err != nil {
			return nil, err
		}
		return &call{ClientStream: stream, next: events(stream.Recv)}, nil
	})
}

// Rollback returns to the previous version, or to the base. Events and errors are those
// of Watch.
func (c *Client) Rollback(ctx context.Context, trial *Trial, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, Source{}, fn, func(ctx context.Context, l *link) (*call, error) {
		stream, err := selfv1.NewSelfServiceClient(l.conn).Rollback(ctx, &selfv1.RollbackRequest{Trial: trial})
		if err != nil {
			return nil, err
		}
		return &call{ClientStream: stream, next: events(stream.Recv)}, nil
	})
}
