package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	"github.com/trident-project/trident/internal/interrupt"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

const (
	eventsMethod = "/trident.machine.v1.LogService/Events"
	listMethod   = "/trident.operations.v1.OperationsService/List"
	getMethod    = "/trident.operations.v1.OperationsService/Get"
	// maxWaiting is how many operations wait for a subscriber that reads slowly.
	maxWaiting = 64
	// maxListed is how many operations a list has; only one runs at a time.
	maxListed = 20
	// maxKnown is how many phases are remembered. When there are more, all are forgotten, and a
	// subscriber may get an ended operation a second time.
	maxKnown = 1000
)

// phases has the last known phase of each operation, by ID.
type phases map[string]operationsv1.Phase

// isNew records the phase of an operation, and reports whether it differs from the one recorded
// before.
func (p phases) isNew(op *operationsv1.Operation) bool {
	if phase, ok := p[op.GetId()]; ok && phase == op.GetPhase() {
		return false
	}
	if len(p) >= maxKnown {
		clear(p)
	}
	p[op.GetId()] = op.GetPhase()
	return true
}

// A follower tells subscribers of the operations of the host. One subscriber leads: it reads
// the events of tridentd for all, over its own connection. If it ends, another one leads.
type follower struct {
	turn chan struct{} // has a value while a subscriber leads

	mu       sync.Mutex
	known    phases // nil without subscribers
	lastGood time.Time
	subs     map[chan *operationsv1.Operation]struct{}
}

func newFollower() *follower {
	return &follower{turn: make(chan struct{}, 1), subs: map[chan *operationsv1.Operation]struct{}{}}
}

// join returns a channel of operations that begin or end, until leave is called. It is closed
// if its reader is too slow.
func (f *follower) join() (operations <-chan *operationsv1.Operation, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan *operationsv1.Operation, maxWaiting)
	f.subs[ch] = struct{}{}
	f.lastGood = time.Now()
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if delete(f.subs, ch); len(f.subs) == 0 {
			f.known = nil
		}
	}
}

// begin records the phases of operations that the first subscriber has just listed, so that note
// does not report them as new. For a further subscriber it does nothing.
func (f *follower) begin(operations []*operationsv1.Operation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known != nil {
		return
	}
	f.known = phases{}
	for _, op := range operations {
		f.known.isNew(op)
	}
}

// note sends the operations that are new or in another phase to all subscribers. It closes the
// channel of a subscriber that reads too slowly.
func (f *follower) note(operations ...*operationsv1.Operation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastGood = time.Now()
	for _, op := range operations {
		if f.known == nil || !f.known.isNew(op) {
			continue
		}
		for ch := range f.subs {
			select {
			case ch <- op:
			default:
				close(ch)
				delete(f.subs, ch)
			}
		}
	}
}

// isLost reports whether no subscriber has reached tridentd for watchTime.
func (f *follower) isLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.lastGood) > watchTime
}

// sendOperations sends the operations that run, and then each that begins, begins to be undone,
// or ends.
func (c *conn) sendOperations(ctx context.Context, name string, started func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var turns sync.WaitGroup
	defer turns.Wait()
	defer cancel()
	operations, leave := c.follower.join()
	defer leave()
	newest, err := c.list(ctx)
	if err != nil {
		return err
	}
	c.follower.begin(newest)
	started()
	led := make(chan error, 1)
	turns.Go(func() { led <- c.takeTurns(ctx) })
	sent := phases{}
	for _, op := range newest {
		if hasEnded(op) {
			sent.isNew(op)
		} else if err := c.sendOperation(ctx, name, op, sent); err != nil {
			return err
		}
	}
	for {
		select {
		case op, ok := <-operations:
			if !ok {
				return errkind.WithHint(errkind.Errorf(errkind.Unavailable, "follow the operations: the caller reads too slowly"), "subscribe again")
			}
			if err := c.sendOperation(ctx, name, op, sent); err != nil {
				return err
			}
		case err := <-led:
			return err
		}
	}
}

func hasEnded(op *operationsv1.Operation) bool {
	return op.GetPhase() == operationsv1.Phase_PHASE_DONE || op.GetPhase() == operationsv1.Phase_PHASE_UNDONE
}

func (c *conn) sendOperation(ctx context.Context, name string, op *operationsv1.Operation, sent phases) error {
	if !sent.isNew(op) {
		return nil
	}
	data, err := methods.Encode(op)
	if err != nil {
		return err
	}
	params, err := json.Marshal(map[string]any{"subscription": name, "operation": data})
	if err != nil {
		return err
	}
	return c.socket.send(ctx, envelope.Notification("notify.operations", params))
}

// takeTurns waits until no other subscriber leads, and then leads. It continues after a restart
// of tridentd. It returns when ctx ends, when tridentd refuses the call, or when nobody has
// reached tridentd for watchTime.
func (c *conn) takeTurns(ctx context.Context) error {
	for {
		select {
		case c.follower.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := c.lead(ctx)
		<-c.follower.turn
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && status.Code(err) != codes.Unavailable || c.follower.isLost():
			return err
		}
		if err := interrupt.Sleep(ctx, watchPause); err != nil {
			return err
		}
	}
}

// lead sends the changes of operations to all subscribers (note) until tridentd ends the stream
// of events. It begins with a list of the newest operations, which has the changes that happened
// while nobody led.
func (c *conn) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := &machinev1.EventsRequest{}
	if err := c.events(ctx, &machinev1.EventsRequest{}, func(got *machinev1.EventsResponse) error {
		from.StreamId, from.AfterSequence = got.GetStreamId(), max(from.GetAfterSequence(), got.GetEvent().GetSequence())
		return nil
	}); err != nil {
		return err
	}
	look := func() error {
		operations, err := c.list(ctx)
		if err == nil {
			c.follower.note(operations...)
		}
		return err
	}
	if err := look(); err != nil {
		return err
	}
	from.Follow = true
	return c.events(ctx, from, func(got *machinev1.EventsResponse) error {
		if got.GetLost() {
			return look()
		}
		if got.GetEvent().GetKind() != machinev1.HostEventKind_HOST_EVENT_KIND_OPERATION {
			return nil
		}
		var answer operationsv1.GetResponse
		err := c.invoke(ctx, getMethod, &operationsv1.GetRequest{Id: got.GetEvent().GetSubject()}, &answer)
		if status.Code(err) == codes.NotFound { // tridentd keeps the newest operations
			return nil
		}
		if err == nil {
			c.follower.note(answer.GetOperation())
		}
		return err
	})
}

// events calls f for each answer of Events, until the stream ends or f fails.
func (c *conn) events(ctx context.Context, request *machinev1.EventsRequest, f func(*machinev1.EventsResponse) error) error {
	stream, err := c.openStream(ctx, eventsMethod, request)
	if err != nil {
		return err
	}
	for {
		var got machinev1.EventsResponse
		if err := stream.RecvMsg(&got); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(&got); err != nil {
			return err
		}
	}
}

// list returns the newest operations, the oldest of them first.
func (c *conn) list(ctx context.Context) ([]*operationsv1.Operation, error) {
	var got operationsv1.ListResponse
	err := c.invoke(ctx, listMethod, &operationsv1.ListRequest{Limit: maxListed}, &got)
	slices.Reverse(got.GetOperations())
	return got.GetOperations(), err
}

func (c *conn) invoke(ctx context.Context, method string, request, answer any) error {
	conn, err := c.gate.Upstream()
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, request, answer)
}
