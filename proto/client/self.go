package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// operationHeader is the response header that names the operation of a stream.
const operationHeader = "trident-operation-id"

// chunkSize is how much of an upload is sent at a time; the API allows 1 MiB.
const chunkSize = 256 << 10

// A Source says where an image comes from: one of URL, Path and Upload.
type Source struct {
	URL  string // http or https
	Path string // an absolute path on the host
	// Upload is read to the end of Size bytes by the verb, and after an error
	// perhaps for one more Read after the verb has returned.
	Upload io.Reader
	Size   int64
	// SHA256 of the whole file, 64 hexadecimal digits; optional. The signature
	// is checked in any case.
	SHA256 string
}

func (s Source) message() *selfv1.Source {
	m := &selfv1.Source{Sha256: s.SHA256}
	switch {
	case s.Upload != nil:
		m.From = &selfv1.Source_Upload{Upload: &selfv1.Upload{Size: s.Size}}
	case s.Path != "":
		m.From = &selfv1.Source_Path{Path: s.Path}
	default:
		m.From = &selfv1.Source_Url{Url: s.URL}
	}
	return m
}

// Status says what runs, where it comes from, and what else is there.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return c.self.GetStatus(ctx, &selfv1.GetStatusRequest{})
}

// History returns at most limit entries (0: a default), newest first.
func (c *Client) History(ctx context.Context, limit int32) ([]*HistoryEntry, error) {
	resp, err := c.self.History(ctx, &selfv1.HistoryRequest{Limit: limit})
	return resp.GetEntries(), err
}

// Unblock lets a version that failed on the host be tried again.
func (c *Client) Unblock(ctx context.Context, version string) error {
	_, err := c.self.Unblock(ctx, &selfv1.UnblockRequest{Version: version})
	return err
}

// Remove deletes a staged image.
func (c *Client) Remove(ctx context.Context, version string) error {
	_, err := c.self.Remove(ctx, &selfv1.RemoveRequest{Version: version})
	return err
}

// Stage gets an image, verifies and probes it, and keeps it on the host. What
// it hands to fn and returns is as in Watch.
func (c *Client) Stage(ctx context.Context, source Source, allowDowngrade bool, fn func(*Event)) (*Operation, error) {
	start := &selfv1.StageRequest_Start{Source: source.message(), AllowDowngrade: allowDowngrade}
	return c.run(ctx, source, fn, func(ctx context.Context) (*call, error) {
		stream, err := c.self.Stage(ctx)
		if err != nil {
			return nil, err
		}
		send := func(chunk []byte) error {
			return stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Chunk{Chunk: chunk}})
		}
		return &call{stream, events(stream.Recv), send}, begun(stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: start}}))
	})
}

// Upgrade brings a new version into service and waits until it has proved
// itself or was thrown back. A nil trial has the defaults. What it hands to fn
// and returns is as in Watch.
func (c *Client) Upgrade(ctx context.Context, source Source, trial *Trial, fn func(*Event)) (*Operation, error) {
	start := &selfv1.UpgradeRequest_Start{Source: source.message(), Trial: trial}
	return c.run(ctx, source, fn, func(ctx context.Context) (*call, error) {
		stream, err := c.self.Upgrade(ctx)
		if err != nil {
			return nil, err
		}
		send := func(chunk []byte) error {
			return stream.Send(&selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Chunk{Chunk: chunk}})
		}
		return &call{stream, events(stream.Recv), send}, begun(stream.Send(&selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Start_{Start: start}}))
	})
}

// Activate brings a staged version into service, the newest one if version is
// empty. What it hands to fn and returns is as in Watch.
func (c *Client) Activate(ctx context.Context, version string, trial *Trial, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, Source{}, fn, func(ctx context.Context) (*call, error) {
		stream, err := c.self.Activate(ctx, &selfv1.ActivateRequest{Version: version, Trial: trial})
		if err != nil {
			return nil, err
		}
		return &call{stream, events(stream.Recv), nil}, nil
	})
}

// Rollback returns to the version before the active one, or to the base. What
// it hands to fn and returns is as in Watch.
func (c *Client) Rollback(ctx context.Context, trial *Trial, fn func(*Event)) (*Operation, error) {
	return c.run(ctx, Source{}, fn, func(ctx context.Context) (*call, error) {
		stream, err := c.self.Rollback(ctx, &selfv1.RollbackRequest{Trial: trial})
		if err != nil {
			return nil, err
		}
		return &call{stream, events(stream.Recv), nil}, nil
	})
}

// call is the stream of a method that begins an operation.
type call struct {
	grpc.ClientStream
	next func() (*Event, error)
	send func(chunk []byte) error // of an upload
}

// begun passes over io.EOF, with which gRPC says that the stream has an error
// to be received.
func begun(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// run begins an operation and follows it to its end.
func (c *Client) run(ctx context.Context, source Source, fn func(*Event), open func(context.Context) (*call, error)) (*Operation, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	call, id, err := c.begin(inner, open)
	if err != nil {
		return nil, c.uncertain(ctx, err, c.explain(ctx, err))
	}
	w := &watch{client: c, id: id, fn: fn}
	if source.Upload == nil {
		_ = call.CloseSend()
		return w.follow(ctx, call.next)
	}
	u := &upload{call: call, source: source, stop: cancel}
	go u.send()
	op, err := w.follow(ctx, call.next)
	if d, ok := errors.AsType[*DetachedError](err); ok {
		d.Uploading = !u.complete.Load()
	}
	if fault := u.fault.Load(); fault != nil {
		return op, *fault
	}
	return op, err
}

// begin opens a stream until its operation has an ID. A daemon that turns it
// down because it is about to be replaced is followed by one that does not.
func (c *Client) begin(ctx context.Context, open func(context.Context) (*call, error)) (*call, string, error) {
	p := patience{most: c.callPatience}
	for {
		call, id, err := attemptToBegin(ctx, open)
		if err == nil || !notBegun(err) || !p.wait(ctx) {
			return call, id, err
		}
		c.logger.Debug("begin again", "error", err)
	}
}

// uncertain marks the one case in which nobody can say whether an operation
// began: the request may have been sent, and there was no answer.
func (c *Client) uncertain(ctx context.Context, err, explained error) error {
	if c.hopeless() || notBegun(err) || (ctx.Err() == nil && !lost(ctx, err)) {
		return explained
	}
	return errkind.WithHint(explained, "The operation may have begun all the same: look for it in the list of operations.")
}

func attemptToBegin(ctx context.Context, open func(context.Context) (*call, error)) (*call, string, error) {
	call, err := open(ctx)
	if err != nil {
		return nil, "", err
	}
	header, err := call.Header()
	if err != nil {
		return nil, "", err
	}
	if id := header.Get(operationHeader); len(id) == 1 && id[0] != "" {
		return call, id[0], nil
	}
	if _, err := call.next(); err != nil && !errors.Is(err, io.EOF) { // a stream that fails at once has no header
		return nil, "", err
	}
	return nil, "", errkind.Errorf(errkind.Internal, "begin operation: the daemon did not say which one it began")
}

// upload sends an image while the operation's events come in.
type upload struct {
	call   *call
	source Source
	stop   func() // ends the stream, and by that the operation

	complete atomic.Bool
	fault    atomic.Pointer[error] // the caller's reader failed
}

func (u *upload) send() {
	buf := make([]byte, chunkSize)
	for sent := int64(0); sent < u.source.Size; {
		n, err := io.ReadFull(u.source.Upload, buf[:min(chunkSize, u.source.Size-sent)])
		if err != nil {
			err = fmt.Errorf("read image: it ended after %d of %d bytes: %w", sent+int64(n), u.source.Size, err)
			u.fault.Store(&err)
			u.stop()
			return
		}
		if u.call.send(buf[:n]) != nil {
			return // the operation says why, or the connection is lost and it fails
		}
		sent += int64(n)
	}
	u.complete.Store(true)
	_ = u.call.CloseSend()
}
