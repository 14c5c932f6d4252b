package client

import (
	"context"
	"errors"
	"io"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func (c *Client) operations() operationsv1.OperationsServiceClient {
	return operationsv1.NewOperationsServiceClient(c.Conn())
}

// Operation returns a snapshot of one operation.
func (c *Client) Operation(ctx context.Context, id string) (*Operation, error) {
	resp, err := c.operations().Get(ctx, &operationsv1.GetRequest{Id: id})
	return resp.GetOperation(), err
}

// Operations returns at most limit operations (0: a default), newest first; with
// unsettled only those that have not ended.
func (c *Client) Operations(ctx context.Context, limit int32, unsettled bool) ([]*Operation, error) {
	resp, err := c.operations().List(ctx, &operationsv1.ListRequest{Limit: limit, Unsettled: unsettled})
	return resp.GetOperations(), err
}

// Cancel asks an operation to stop and undo its steps. It does not wait for that.
func (c *Client) Cancel(ctx context.Context, id string) (*Operation, error) {
	resp, err := c.operations().Cancel(ctx, &operationsv1.CancelRequest{Id: id})
	return resp.GetOperation(), err
}

// Continue has an operation go on that is paused (see Trial.pause), and returns at once.
func (c *Client) Continue(ctx context.Context, id string) (*Operation, error) {
	resp, err := c.operations().Continue(ctx, &operationsv1.ContinueRequest{Id: id})
	return resp.GetOperation(), err
}

// Watch calls fn, which may be nil, for each event of an operation after a sequence
// number, once and in order. It returns the operation when it has ended, with an
// *OperationError if without success. If ctx ends first, the error is a *DetachedError
// and the operation continues.
func (c *Client) Watch(ctx context.Context, id string, after uint64, fn func(*Event)) (*Operation, error) {
	w := &watch{client: c, id: id, after: after, fn: fn}
	return w.follow(ctx, nil)
}

// watch follows one operation over any number of connections.
type watch struct {
	client *Client
	id     string
	after  uint64
	fn     func(*Event)
	// enough, if set, reports at which event to stop before the operation has ended.
	enough  func(*Event) bool
	stopped bool
	// forgotten: the system that boots next does not know the operation. leaving is the
	// operation once its reboot has begun: a lost connection is then the reboot.
	forgotten bool
	leaving   *Operation
}

// follow watches until the operation has settled. The first events come from next, unless
// that is nil.
func (w *watch) follow(ctx context.Context, next func() (*Event, error)) (*Operation, error) {
	p := patience{most: w.client.watchPatience}
	for {
		before := w.after
		op, err := w.attempt(ctx, next)
		switch {
		case err == nil && settled(op.GetPhase()):
			return op, result(op)
		case err == nil && w.stopped:
			return op, nil
		case err != nil && w.leaving != nil && ctx.Err() == nil && lost(ctx, err):
			return w.leaving, nil
		case ctx.Err() != nil:
			return nil, &DetachedError{Operation: w.id, Sequence: w.after, cause: context.Cause(ctx)}
		case err != nil && (!lost(ctx, err) || w.client.hopeless()):
			return nil, w.client.explain(ctx, err)
		}
		if w.after > before {
			p.succeeded()
		}
		if !p.wait(ctx) {
			if ctx.Err() != nil {
				continue
			}
			return nil, w.client.explain(ctx, err)
		}
		w.client.logger.Debug("watch again", "operation", w.id, "after", w.after, "error", err)
		next = nil
	}
}

// attempt watches over one connection.
func (w *watch) attempt(ctx context.Context, next func() (*Event, error)) (*Operation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if next == nil {
		l, err := w.client.link(ctx)
		if err != nil {
			return nil, err
		}
		stream, err := operationsv1.NewOperationsServiceClient(l.conn).Watch(ctx, &operationsv1.WatchRequest{Id: w.id, AfterSequence: w.after})
		if err != nil {
			return nil, err
		}
		next = events(stream.Recv)
	}
	for !w.stopped {
		event, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if event.GetHalt() != nil { // a halt is not journaled, and has no number of its own
			if w.fn != nil {
				w.fn(event)
			}
			continue
		}
		if event.GetSequence() <= w.after {
			continue
		}
		w.after = event.GetSequence()
		switch waiting := event.GetChange().GetWaiting(); {
		case waiting == "reboot":
			w.client.leaves(w.id)
		case event.GetChange() != nil:
			w.client.leaves("")
		}
		if w.fn != nil {
			w.fn(event)
		}
		w.stopped = w.enough != nil && w.enough(event)
		if w.forgotten && event.GetStep() == "reboot" && event.GetPhase() == operationsv1.Phase_PHASE_DOING {
			w.leaving = &Operation{Id: w.id, Summary: "the disk is written, and the host reboots", Phase: event.GetPhase(), Step: event.GetStep(), Waiting: "reboot"}
		}
	}
	resp, err := w.client.operations().Get(ctx, &operationsv1.GetRequest{Id: w.id})
	return resp.GetOperation(), err
}

// events returns a function that receives the events of a stream's responses.
func events[R interface{ GetEvent() *Event }](recv func() (R, error)) func() (*Event, error) {
	return func() (*Event, error) {
		resp, err := recv()
		if err != nil {
			return nil, err
		}
		return resp.GetEvent(), nil
	}
}
