package client

import (
	"context"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	"github.com/trident-project/trident/proto/wire"
)

// ImageKind is what an image that is opened is for.
type ImageKind = handlesv1.ImageKind

// A Config is a Host Configuration for the verbs of Host. One that was made by
// OpenConfig has crossed to the daemon and is named by a number in each call; of
// any other the text is sent.
type Config struct {
	// Text is the document, YAML in UTF-8.
	Text string

	client *Client
	mu     sync.Mutex
	link   *link
	handle int64
}

// OpenConfig sends a Host Configuration to the daemon, so that it crosses once
// however often it is used. On a new connection it is sent again by itself. A
// daemon without handles gets the text with each call.
func (c *Client) OpenConfig(ctx context.Context, text []byte) (*Config, error) {
	if !utf8.Valid(text) {
		return nil, errkind.Errorf(errkind.Invalid, "open Host Configuration: it is not UTF-8")
	}
	config := &Config{Text: string(text), client: c}
	err := c.unary(ctx, true, func(ctx context.Context, l *link) error {
		_, err := config.on(ctx, l, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	return config, nil
}

// Close frees what the daemon holds. The end of the connection does so too.
func (f *Config) Close(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle == 0 {
		return nil
	}
	err := f.client.closeHandle(ctx, f.link, f.handle)
	f.handle, f.link, f.client = 0, nil, nil // from now on it is a text
	return err
}

// on is the handle on a link, or 0 if the text has to be sent: it was not opened,
// or the daemon lacks a capability.
func (f *Config) on(ctx context.Context, l *link, capability string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client == nil || f.Text == "" || !l.can(wire.ConfigHandles) || (capability != "" && !l.can(capability)) {
		return 0, nil
	}
	if f.link == l {
		return f.handle, nil
	}
	stream, err := handlesv1.NewHandleServiceClient(l.conn).OpenConfig(ctx)
	if err != nil {
		return 0, err
	}
	size := int64(len(f.Text))
	err = begun(stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Start_{Start: &handlesv1.OpenConfigRequest_Start{Size: size}}}))
	for rest := []byte(f.Text); err == nil && len(rest) > 0; {
		n := min(l.chunk(), int64(len(rest)))
		if err = stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Chunk{Chunk: rest[:n]}}); err == nil {
			rest = rest[n:]
		}
	}
	if err := begun(err); err != nil {
		return 0, err
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return 0, by(stream.Trailer(), err)
	}
	f.link, f.handle = l, resp.GetConfigHandle()
	return f.handle, nil
}

// An Image is one that the daemon holds, or has open, for calls to come. It lasts
// until Close or the end of the connection.
type Image struct {
	Size   int64  // in bytes
	SHA384 string // lower-case hexadecimal

	client *Client
	link   *link
	handle int64
}

// OpenImage has the daemon get an image, check its SHA384, and keep it for calls
// to come. One of Trident can be the Source of Stage and Upgrade.
func (c *Client) OpenImage(ctx context.Context, kind ImageKind, source Source) (*Image, error) {
	if source.SHA256 != "" || source.Image != nil {
		return nil, errkind.Errorf(errkind.Invalid, "open image: it takes a SHA-384 only, and no image that is open already")
	}
	l, err := c.patientLink(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.require(wire.ImageHandles); err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	image, fault, err := openImage(inner, l, kind, source, cancel)
	switch {
	case fault != nil:
		return nil, *fault
	case err != nil:
		return nil, c.explain(ctx, err)
	}
	image.client = c
	return image, nil
}

func openImage(ctx context.Context, l *link, kind ImageKind, source Source, stop func()) (_ *Image, fault *error, err error) {
	stream, err := handlesv1.NewHandleServiceClient(l.conn).OpenImage(ctx)
	if err != nil {
		return nil, nil, err
	}
	start := &handlesv1.OpenImageRequest_Start{Kind: kind, Sha384: source.SHA384}
	switch {
	case source.Upload != nil:
		start.From = &handlesv1.OpenImageRequest_Start_Size{Size: source.Size}
	case source.Path != "":
		start.From = &handlesv1.OpenImageRequest_Start_Path{Path: source.Path}
	default:
		start.From = &handlesv1.OpenImageRequest_Start_Url{Url: source.URL}
	}
	if err := begun(stream.Send(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Start_{Start: start}})); err != nil {
		return nil, nil, err
	}
	if source.Upload != nil {
		u := &upload{source: source, chunk: l.chunk(), stop: stop, send: func(chunk []byte) error {
			return stream.Send(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Chunk{Chunk: chunk}})
		}}
		u.run()
		fault = u.fault.Load()
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, fault, by(stream.Trailer(), err)
	}
	return &Image{Size: resp.GetSize(), SHA384: resp.GetSha384(), link: l, handle: resp.GetImageHandle()}, fault, nil
}

// Close frees what the daemon holds. An operation that uses the image goes on.
func (i *Image) Close(ctx context.Context) error { return i.client.closeHandle(ctx, i.link, i.handle) }

// on is the handle on a link.
func (i *Image) on(l *link) (int64, error) {
	if i.link != l {
		return 0, errkind.WithHint(errkind.Errorf(errkind.Precondition, "the image is not open any more: the connection that it was opened over has ended"), "Open it again.")
	}
	return i.handle, nil
}

// closeHandle does nothing for a connection that has ended: its handles are free.
func (c *Client) closeHandle(ctx context.Context, l *link, handle int64) error {
	if !l.alive() {
		return nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := handlesv1.NewHandleServiceClient(l.conn).Close(ctx, &handlesv1.CloseRequest{Handle: handle}, grpc.WaitForReady(false))
	if lost(ctx, err) {
		return nil
	}
	return c.explain(ctx, err)
}
