package client

import (
	"context"
	"slices"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/proto/errkind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	"github.com/trident-project/trident/proto/wire"
)

// ImageKind is the purpose of an image, and the type of its handle.
type ImageKind = handlesv1.ImageKind

// A Config is a Host Configuration for the methods of Host. If OpenConfig made it, calls
// send its handle; otherwise they send its text.
type Config struct {
	// Text is the document, YAML in UTF-8.
	Text string

	client *Client
	mu     sync.Mutex
	link   *link
	handle int64
}

// OpenConfig sends a Host Configuration to the daemon, so that later calls send only its
// handle. On a new connection the client sends it again by itself. To a daemon without
// handles each call sends the text.
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

// Close frees the daemon's copy; the end of the connection does the same. Calls with f
// after Close send the text again.
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

// on returns the handle on a link, and opens it there first if necessary. 0 means that
// the call has to send the text: the Config is not open, or the daemon lacks a
// capability.
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
	if err := begun(stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Start_{Start: &handlesv1.OpenConfigRequest_Start{Size: size}}})); err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk([]byte(f.Text), int(l.chunk())) {
		if stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Chunk{Chunk: chunk}}) != nil {
			break // CloseAndRecv returns why
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return 0, by(stream.Trailer(), err)
	}
	f.link, f.handle = l, resp.GetConfigHandle()
	return f.handle, nil
}

// An Image is a handle to an image that the daemon has fetched and checked (OpenImage).
// Later calls name the image by it. It is valid until Close or the end of the connection.
type Image struct {
	Size   int64  // in bytes
	SHA384 string // lower-case hexadecimal

	client *Client
	link   *link
	handle int64
}

// OpenImage has the daemon fetch an image and check its SHA384, for later calls. An image
// of Trident can be the Source of Stage and Upgrade. SHA256, Image, Feed, Incoming and MaxBytes
// of source must be empty. FetchTimeout bounds the whole call for a URL.
func (c *Client) OpenImage(ctx context.Context, kind ImageKind, source Source) (*Image, error) {
	if source.SHA256 != "" || source.Image != nil || source.Feed || source.Incoming || source.MaxBytes != 0 {
		return nil, errkind.Errorf(errkind.Invalid, "open image: the source may have a SHA384, but no SHA256, no open Image, no MaxBytes, and it is not the update feed")
	}
	l, err := c.patientLink(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.require(wire.ImageHandles); err != nil {
		return nil, err
	}
	if source.URL != "" && source.FetchTimeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, source.FetchTimeout, errkind.Errorf(errkind.Timeout, "open image: the fetch takes longer than %s", source.FetchTimeout))
		defer cancel()
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

// Close frees the handle. An operation that uses the image continues.
func (i *Image) Close(ctx context.Context) error { return i.client.closeHandle(ctx, i.link, i.handle) }

// on returns the handle, if l is the link that it was opened on.
func (i *Image) on(l *link) (int64, error) {
	if i.link != l {
		return 0, errkind.WithHint(errkind.Errorf(errkind.Precondition, "the image is closed: the connection that opened it has ended"), "Open it again.")
	}
	return i.handle, nil
}

// closeHandle does nothing after the end of the connection, which frees its handles.
func (c *Client) closeHandle(ctx context.Context, l *link, handle int64) error {
	if !l.alive() {
		return nil
	}
	ctx, cancel := c.bounded(ctx, 0)
	defer cancel()
	_, err := handlesv1.NewHandleServiceClient(l.conn).Close(ctx, &handlesv1.CloseRequest{Handle: handle}, grpc.WaitForReady(false))
	if lost(ctx, err) {
		return nil
	}
	return c.explain(ctx, err)
}
