package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/interrupt"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// Topics of subscriptions.
const (
	topicOperation  = "operation"
	topicOperations = "operations"
	topicLoad       = "load"
	topicJournal    = "journal"
)

const (
	// maxSubscriptions is how many one WebSocket can have.
	maxSubscriptions = 32
	watchMethod      = "/trident.operations.v1.OperationsService/Watch"
	// A subscription survives a restart of tridentd. It tries for watchTime, with watchPause
	// between two attempts.
	watchTime  = 2 * time.Minute
	watchPause = 500 * time.Millisecond
)

// subscription is the parameters of notifications.subscribe.
type subscription struct {
	Topic         string
	ID            string
	AfterSequence json.Number
	methods.Journal
	after uint64
}

// hasOnly reports whether s has only those optional parameters that its topic takes.
func (s *subscription) hasOnly(id, journal bool) bool {
	return id == (s.ID != "") && (id || s.AfterSequence == "") && (journal || s.Journal == methods.Journal{})
}

// stream sends the notifications of a subscription until ctx ends. It calls started, once or
// more, when the subscription has begun: an earlier error is the answer to
// notifications.subscribe, a later one is in notify.end.
type stream func(ctx context.Context, name string, started func()) error

func subscribe(ctx context.Context, c *conn, params json.RawMessage) (json.RawMessage, error) {
	var given subscription
	if err := read(params, &given); err != nil {
		return nil, err
	}
	if c.socket == nil {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "subscribe: the gateway cannot send notifications over HTTP"), "connect by WebSocket at %s", PathRPC)
	}
	action, run := Action{Name: methodSubscribe, Right: rights.Read}, stream(c.sendLoad)
	switch {
	case given.Topic == topicLoad && given.hasOnly(false, false):
	case given.Topic == topicOperations && given.hasOnly(false, false):
		action.GRPC, run = eventsMethod, c.sendOperations
	case given.Topic == topicJournal && given.hasOnly(false, true):
		action.GRPC, action.Right, run = methods.JournalGRPC, rights.Secret, c.sendJournal(&given.Journal)
	case given.Topic == topicOperation && given.hasOnly(true, false):
		var err error
		if given.after, err = strconv.ParseUint("0"+given.AfterSequence.String(), 10, 64); err != nil {
			return nil, envelope.Errorf(envelope.InvalidParams, "subscribe: afterSequence is not a number from 0 on")
		}
		action.GRPC, run = watchMethod, c.sendEvents(&given)
	default:
		return nil, envelope.Errorf(envelope.InvalidParams, "subscribe: the topic is %s, with an id, %s or %s, without parameters, or %s, with those of machine.journal but limit",
			topicOperation, topicOperations, topicLoad, topicJournal)
	}
	name, err := c.socket.begin(ctx, func(ctx context.Context, name string, started func()) error {
		return c.gate.Do(ctx, action, func(ctx context.Context) error { return run(ctx, name, started) })
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"subscription": name})
}

func unsubscribe(_ context.Context, c *conn, params json.RawMessage) (json.RawMessage, error) {
	var given struct{ Subscription string }
	if err := read(params, &given); err != nil {
		return nil, err
	}
	if c.socket == nil || !c.socket.end(given.Subscription) {
		return nil, errkind.Errorf(errkind.NotFound, "unsubscribe: this connection has no subscription %.80q", given.Subscription)
	}
	return json.RawMessage("{}"), nil
}

// sendLoad sends each sample of the load.
func (c *conn) sendLoad(ctx context.Context, name string, started func()) error {
	samples, end := c.load.Follow()
	defer end()
	started()
	for {
		select {
		case s := <-samples:
			data, err := json.Marshal(map[string]any{"subscription": name, "sample": s})
			if err == nil {
				err = c.socket.send(ctx, envelope.Notification("notify.load", data))
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sendEvents sends the events of an operation until the operation has ended. It continues after a
// restart of tridentd.
func (c *conn) sendEvents(s *subscription) stream {
	return func(ctx context.Context, name string, started func()) error {
		isStarted := false
		return keepUp(ctx, func() (bool, bool, error) {
			before := s.after
			err := c.watch(ctx, s, name, func() { isStarted = true; started() })
			return isStarted, s.after > before, err
		})
	}
}

// keepUp calls attempt, and calls it again when it fails because tridentd cannot be reached, as
// during a restart. It gives up, and returns the last error, if no attempt has ever begun or if
// there was no progress for watchTime.
func keepUp(ctx context.Context, attempt func() (hasBegun, hasProgress bool, err error)) error {
	since := time.Now()
	for {
		hasBegun, hasProgress, err := attempt()
		if hasProgress {
			since = time.Now()
		}
		if status.Code(err) != codes.Unavailable || !hasBegun || time.Since(since) > watchTime {
			return err
		}
		if err := interrupt.Sleep(ctx, watchPause); err != nil {
			return err
		}
	}
}

// watch sends events until the stream ends, and keeps the sequence number of the last one in s.
func (c *conn) watch(ctx context.Context, s *subscription, name string, started func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.openStream(ctx, watchMethod, &operationsv1.WatchRequest{Id: s.ID, AfterSequence: s.after})
	if err != nil {
		return err
	}
	if header, err := stream.Header(); err == nil && header != nil {
		started()
	}
	for {
		var got operationsv1.WatchResponse
		if err := stream.RecvMsg(&got); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		started()
		event, err := methods.Encode(got.GetEvent())
		if err == nil {
			err = c.socket.send(ctx, envelope.Notification("notify.operation", join(name, event)))
		}
		if err != nil {
			return err
		}
		s.after = max(s.after, got.GetEvent().GetSequence())
	}
}

// openStream calls a method whose answer is a stream. The stream ends with ctx.
func (c *conn) openStream(ctx context.Context, method string, request any) (grpc.ClientStream, error) {
	conn, err := c.gate.Upstream()
	if err != nil {
		return nil, err
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // the answer has the reason
		return nil, err
	}
	return stream, stream.CloseSend()
}

func join(name string, event json.RawMessage) json.RawMessage {
	return json.RawMessage(`{"subscription":"` + name + `","event":` + string(event) + `}`)
}
