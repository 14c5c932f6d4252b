package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/wire"
)

// call is the stream of a method that begins an operation.
type call struct {
	grpc.ClientStream
	link  *link
	id    string                 // of the operation; empty if the daemon does not state it
	after uint64                 // the operation's last event before this call
	next  func() (*Event, error) // of methods that stream events
	send  func(chunk []byte) error
}

// request is a call that begins an operation, and that the client may have to repeat. A
// daemon that knows the name does not begin a second operation for it.
type request struct {
	client *Client
	name   string
	// once forbids to repeat it: the uploaded bytes cannot be read again.
	once bool
	open func(context.Context, *link) (*call, error)
}

func (c *Client) request(open func(context.Context, *link) (*call, error)) *request {
	return &request{client: c, name: rand.Text(), open: open}
}

// begin makes the call until a daemon answers: with an operation, without one, or with an
// error. It repeats a call that had no effect. It repeats a call that may have begun an
// operation only if the daemon recognises the request.
func (r *request) begin(ctx context.Context) (*call, error) {
	p := patience{most: r.client.callPatience}
	var doubt error // why nobody knows whether an operation has begun
	for {
		l, err := r.client.link(ctx)
		if err == nil && doubt != nil && !l.can(wire.RequestIDs) {
			return nil, r.uncertain(ctx, doubt)
		}
		var out *call
		if err == nil {
			if out, err = r.attempt(ctx, l); err == nil {
				return out, nil
			}
		}
		if !notBegun(err) && (ctx.Err() != nil || lost(ctx, err)) {
			doubt = err
		}
		again := notBegun(err) || (lost(ctx, err) && !r.once)
		if !again || !lost(ctx, err) || r.client.hopeless() || !p.wait(ctx) {
			if doubt != nil {
				return nil, r.uncertain(ctx, err)
			}
			return nil, r.client.explain(ctx, err)
		}
		r.client.logger.DebugContext(ctx, "begin again", "error", err)
	}
}

// uncertain adds a hint to the one error after which an operation may have begun: the
// client may have sent the request, and got no answer.
func (r *request) uncertain(ctx context.Context, err error) error {
	return errkind.WithHint(r.client.explain(ctx, err), "The operation may have begun: find it in the list of operations.")
}

// attempt makes the call once and waits for the header of the answer.
func (r *request) attempt(ctx context.Context, l *link) (*call, error) {
	out, err := r.open(metadata.AppendToOutgoingContext(ctx, wire.HeaderRequest, r.name), l)
	if err != nil {
		return nil, err
	}
	out.link = l
	header, err := out.Header()
	if err != nil {
		return nil, err
	}
	if len(header) == 0 { // a stream that fails at once has none
		err := out.RecvMsg(&emptypb.Empty{})
		if err == nil || errors.Is(err, io.EOF) {
			err = errkind.Errorf(errkind.Internal, "begin operation: the daemon ended the call without an answer")
		}
		return nil, by(out.Trailer(), err)
	}
	if id := header.Get(wire.HeaderOperation); len(id) == 1 {
		out.id = id[0]
	}
	if after := header.Get(wire.HeaderAfter); len(after) == 1 {
		out.after, _ = strconv.ParseUint(after[0], 10, 64) // 0, the beginning, if it is not a number
	}
	return out, nil
}

// run begins an operation of a method that streams events, and follows it to its
// end.
func (c *Client) run(ctx context.Context, source Source, fn func(*Event), open func(context.Context, *link) (*call, error)) (*Operation, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	r := c.request(open)
	r.once = source.Upload != nil
	call, err := r.begin(inner)
	if err != nil {
		return nil, err
	}
	if call.id == "" {
		return nil, errkind.Errorf(errkind.Internal, "begin operation: the daemon did not name the operation")
	}
	w := &watch{client: c, id: call.id, fn: fn}
	if source.Upload == nil {
		_ = call.CloseSend()
		return w.follow(ctx, call.next)
	}
	u := &upload{send: call.send, source: source, chunk: call.link.chunk(), stop: cancel}
	go func() {
		if u.run() {
			_ = call.CloseSend()
		}
	}()
	op, err := w.follow(ctx, call.next)
	if d, ok := errors.AsType[*DetachedError](err); ok {
		d.Uploading = !u.complete.Load()
	}
	if fault := u.fault.Load(); fault != nil {
		return op, *fault
	}
	return op, err
}

// begun returns nil for io.EOF, by which gRPC says that RecvMsg has the stream's error.
func begun(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
