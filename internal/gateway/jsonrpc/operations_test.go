package jsonrpc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func (d *daemon) List(_ context.Context, r *operationsv1.ListRequest) (*operationsv1.ListResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &operationsv1.ListResponse{}
	for _, op := range d.operations {
		if !r.GetUnsettled() || op.GetPhase() == operationsv1.Phase_PHASE_DOING {
			out.Operations = append(out.Operations, op)
		}
	}
	return out, nil
}

func (d *daemon) Events(r *machinev1.EventsRequest, stream grpc.ServerStreamingServer[machinev1.EventsResponse]) error {
	d.mu.Lock()
	epoch := d.epoch
	d.change(func() { d.follows++ })
	d.mu.Unlock()
	defer func() { d.mu.Lock(); defer d.mu.Unlock(); d.change(func() { d.follows-- }) }()
	next := int(r.GetAfterSequence())
	if id := r.GetStreamId(); id != "" && id != fmt.Sprint(epoch) {
		next = 0
		if err := stream.Send(&machinev1.EventsResponse{StreamId: fmt.Sprint(epoch), Lost: true}); err != nil {
			return err
		}
	}
	for ; ; next++ {
		d.mu.Lock()
		for next >= len(d.events) && r.GetFollow() && d.epoch == epoch && stream.Context().Err() == nil {
			changed := d.changed
			d.mu.Unlock()
			select {
			case <-changed:
			case <-stream.Context().Done():
			}
			d.mu.Lock()
		}
		isOver, isOld, events := next >= len(d.events), d.epoch != epoch, d.events
		d.mu.Unlock()
		switch {
		case isOld:
			return status.Error(codes.Unavailable, "tridentd restarts")
		case isOver:
			return stream.Context().Err()
		}
		kind := machinev1.HostEventKind_HOST_EVENT_KIND_OPERATION
		if events[next] == "mount" {
			kind = machinev1.HostEventKind_HOST_EVENT_KIND_MOUNT
		}
		if err := stream.Send(&machinev1.EventsResponse{StreamId: fmt.Sprint(epoch), Event: &machinev1.HostEvent{Sequence: uint64(next + 1), Kind: kind, Subject: events[next]}}); err != nil {
			return err
		}
	}
}

// change calls f and tells those who wait. The caller holds d.mu.
func (d *daemon) change(f func()) {
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// put puts an operation into a phase. The caller holds d.mu.
func (d *daemon) put(id string, phase operationsv1.Phase) {
	op := &operationsv1.Operation{Id: id, Kind: "self-upgrade", Phase: phase, AskedBy: "token:ci"}
	if i := slices.IndexFunc(d.operations, func(o *operationsv1.Operation) bool { return o.GetId() == id }); i >= 0 {
		d.operations = slices.Clone(d.operations)
		d.operations[i] = op
	} else {
		d.operations = append([]*operationsv1.Operation{op}, d.operations...)
	}
}

// set puts an operation into a phase, with events.
func (d *daemon) set(id string, phase operationsv1.Phase) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(func() {
		d.put(id, phase)
		d.events = append(d.events, id, "mount", id)
	})
}

// awaitFollows waits until n streams of Events run.
func (d *daemon) awaitFollows(t *testing.T, n int) {
	t.Helper()
	end := time.After(time.Minute)
	for {
		d.mu.Lock()
		follows, changed := d.follows, d.changed
		d.mu.Unlock()
		if follows == n {
			return
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("%d streams of events run, want %d", follows, n)
		}
	}
}

const (
	doing  = operationsv1.Phase_PHASE_DOING
	done   = operationsv1.Phase_PHASE_DONE
	undone = operationsv1.Phase_PHASE_UNDONE
)

// told reads the next notification and returns the operation and the phase in it.
func (c *wsConn) told() string {
	c.t.Helper()
	text := c.read()
	var got struct {
		Method string
		Params struct {
			Subscription string
			Operation    struct{ ID, Kind, Phase, AskedBy string }
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Method != "notify.operations" || got.Params.Subscription == "" {
		c.t.Fatalf("%s %v", text, err)
	}
	op := got.Params.Operation
	if op.Kind != "self-upgrade" || op.AskedBy != "token:ci" {
		c.t.Errorf("the operation lacks members: %s", text)
	}
	return op.ID + " " + strings.TrimPrefix(op.Phase, "PHASE_")
}

// follows subscribes and returns the connection, after the snapshot of one operation.
func (f *fixture) follows(snapshot string) *wsConn {
	f.t.Helper()
	c := f.dial("Authorization", "Bearer t")
	c.send(`{"jsonrpc":"2.0","method":"notifications.subscribe","params":["operations"],"id":"s"}`)
	first, second := c.read(), ""
	if !strings.Contains(first, `"id":"s"`) { // the answer may come after the snapshot
		first, second = c.read(), first
	}
	if brief(first) != `{"subscription":"s1"} id="s"` {
		f.t.Fatal(first)
	}
	if second == "" {
		second = c.read()
	}
	if !strings.Contains(second, `"`+snapshot+`"`) {
		f.t.Errorf("the snapshot is %s", second)
	}
	return c
}

func expectTold(t *testing.T, cs []*wsConn, want ...string) {
	t.Helper()
	for i, c := range cs {
		for _, w := range want {
			if got := c.told(); got != w {
				t.Errorf("subscriber %d: %s, want %s", i, got, w)
			}
		}
	}
}

// Subscribers learn of every operation, from one stream of events, also when the leader leaves
// and tridentd restarts.
func TestSubscribersLearnOfOperationsOfOthers(t *testing.T) {
	f := newFixture(t)
	d := f.daemon
	d.set("old", done)
	d.set("a", doing)
	leader, other := f.follows("a"), f.follows("a")
	d.awaitFollows(t, 1)
	d.set("a", doing) // another step
	d.set("a", done)
	d.set("b", doing)
	expectTold(t, []*wsConn{leader, other}, "a DONE", "b DOING")

	_ = leader.CloseNow()
	d.awaitFollows(t, 1) // perhaps still that of the leader
	d.set("b", undone)
	d.set("c", doing)
	expectTold(t, []*wsConn{other}, "b UNDONE", "c DOING")

	// An operation ends and one begins while tridentd is away.
	d.mu.Lock()
	d.change(func() {
		d.epoch++
		d.events = nil
		d.put("c", done)
		d.put("d", doing)
	})
	d.mu.Unlock()
	expectTold(t, []*wsConn{other}, "c DONE", "d DOING")
	if got := brief(other.call(`{"jsonrpc":"2.0","method":"notifications.unsubscribe","params":["s1"],"id":1}`)); got != "{} id=1" {
		t.Error(got)
	}
	d.awaitFollows(t, 0)
	calls := 0
	for _, a := range f.gate.actions {
		if a.Name == methodSubscribe && a.GRPC == eventsMethod && a.Right == "read" {
			calls++
		}
	}
	if calls != 2 {
		t.Errorf("the gate saw %d subscriptions, not 2", calls)
	}
}

func TestASubscriberThatReadsTooSlowlyIsDropped(t *testing.T) {
	f := newFollower()
	slow, leave := f.join()
	f.begin([]*operationsv1.Operation{{Id: "known"}})
	f.note(&operationsv1.Operation{Id: "known"})
	for i := range maxWaiting + 1 {
		f.note(&operationsv1.Operation{Id: fmt.Sprint(i)})
	}
	got := 0
	for range slow {
		got++
	}
	if got != maxWaiting || len(f.subs) != 0 {
		t.Errorf("%d operations, %d subscribers", got, len(f.subs))
	}
	for i := range 2 * maxKnown {
		f.note(&operationsv1.Operation{Id: fmt.Sprint(i)})
	}
	if len(f.known) > maxKnown {
		t.Errorf("%d operations are remembered", len(f.known))
	}
	if leave(); f.known != nil {
		t.Error("the follower remembers operations without a subscriber")
	}
}

func TestTheTopicOperationsHasNoID(t *testing.T) {
	f := newFixture(t)
	c := f.dial("Authorization", "Bearer t")
	if got := brief(c.call(`{"jsonrpc":"2.0","method":"notifications.subscribe","params":["operations","op"],"id":1}`)); got != "-32602 id=1" {
		t.Error(got)
	}
}
