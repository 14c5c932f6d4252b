package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

const (
	done   = operationsv1.Phase_PHASE_DONE
	undone = operationsv1.Phase_PHASE_UNDONE
)

// upgradeScript is an upgrade that goes well, with a restart in it.
func upgradeScript() []*operationsv1.Event {
	return []*operationsv1.Event{
		clienttest.Step(0, "fetch", nil),
		clienttest.Progress("fetch", 1, 3),
		clienttest.Progress("fetch", 3, 3),
		clienttest.Step(0, "verify", nil),
		clienttest.Log("verify", operationsv1.Severity_SEVERITY_INFO, "signed by somebody"),
		clienttest.Restart("restart"),
		clienttest.Step(0, "prove", nil),
		clienttest.Step(done, "settle", nil),
	}
}

func dial(t *testing.T, s *clienttest.Server, options ...client.Option) *client.Client {
	t.Helper()
	t.Cleanup(s.Close)
	c, err := client.Dial("memory", append([]client.Option{client.WithDialer(s.Dial)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// watcher collects the sequence numbers of events.
type watcher []uint64

func (w *watcher) event(e *client.Event) { *w = append(*w, e.GetSequence()) }

func numbers(from, to uint64) (all watcher) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestEachEventComesOnceAndInOrderHoweverOftenTheStreamEnds(t *testing.T) {
	for _, drop := range []int{0, 1, 2, 3} {
		t.Run(fmt.Sprintf("after %d events", drop), func(t *testing.T) {
			s := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript(), Drop: drop})
			c := dial(t, s)
			var seen watcher
			op, err := c.Upgrade(t.Context(), client.Source{URL: "http://example.com/t.raw"}, nil, seen.event)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(numbers(1, 8), seen); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if op.GetPhase() != done || op.GetLastSequence() != 8 {
				t.Errorf("operation ended as %v", op)
			}
			if v, err := c.Version(t.Context()); v != "2.0.0" || err != nil {
				t.Errorf("version %q, error %v after the restart", v, err)
			}
		})
	}
}

func TestEveryVerbThatBeginsAnOperationFollowsItToItsEnd(t *testing.T) {
	verbs := map[string]func(*client.Client, func(*client.Event)) (*client.Operation, error){
		"self-stage": func(c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Stage(t.Context(), client.Source{Path: "/t.raw"}, false, fn)
		},
		"self-upgrade": func(c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Upgrade(t.Context(), client.Source{Path: "/t.raw"}, &client.Trial{}, fn)
		},
		"self-activate": func(c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Activate(t.Context(), "", nil, fn)
		},
		"self-rollback": func(c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Rollback(t.Context(), nil, fn)
		},
	}
	for kind, run := range verbs {
		t.Run(kind, func(t *testing.T) {
			s := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript(), Drop: 2})
			var seen watcher
			op, err := run(dial(t, s), seen.event)
			if err != nil {
				t.Fatal(err)
			}
			if op.GetKind() != kind || len(seen) != 8 {
				t.Errorf("operation %s with events %v", op.GetKind(), seen)
			}
		})
	}
}

func TestWatchBeginsAfterTheSequenceNumber(t *testing.T) {
	s := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript()})
	c := dial(t, s)
	op, err := c.Rollback(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen watcher
	if _, err := c.Watch(t.Context(), op.GetId(), 6, seen.event); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbers(7, 8), seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if _, err := c.Watch(t.Context(), "op-9", 0, nil); client.Kind(err) != "NOT_FOUND" {
		t.Errorf("an operation that is not there: %v", err)
	}
}

func TestAnOperationThatMayHaveBegunIsToBeLookedFor(t *testing.T) {
	s := clienttest.New(clienttest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	called := func() bool { return count(s, selfv1.SelfService_Rollback_FullMethodName) > 0 }
	c := dial(t, s, client.WithDialer(func(context.Context) (net.Conn, error) {
		conn, err := s.Dial(ctx)
		return mute{conn, called, cancel}, err
	}))
	_, err := c.Rollback(ctx, nil, nil)
	if !errors.Is(err, context.Canceled) || !strings.Contains(client.Hint(err), "may have begun") {
		t.Errorf("error %v, hint %q", err, client.Hint(err))
	}
}

// mute is a connection whose answers are lost once the call has arrived; by then
// the caller has lost interest.
type mute struct {
	net.Conn
	called func() bool
	cancel func()
}

func (m mute) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if m.called() {
		m.cancel()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func TestAnUploadArrivesWhole(t *testing.T) {
	image := bytes.Repeat([]byte("trident"), 100_000) // more than one chunk
	s := clienttest.New(clienttest.Config{})
	c := dial(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan error)
	go func() {
		_, err := c.Stage(ctx, client.Source{Upload: bytes.NewReader(image), Size: int64(len(image))}, false, nil)
		finished <- err
	}()
	eventually(t, func() bool { return len(s.Uploads()) == 1 })
	cancel()
	detached, ok := errors.AsType[*client.DetachedError](<-finished)
	if !ok || detached.Uploading {
		t.Errorf("error %v", detached)
	}
	if !bytes.Equal(s.Uploads()[0], image) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(s.Uploads()[0]), len(image))
	}
}

func TestAnUploadThatCannotBeReadSaysHowFarItCame(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(errors.New("disk on fire")))
	c := dial(t, clienttest.New(clienttest.Config{}))
	op, err := c.Upgrade(t.Context(), client.Source{Upload: broken, Size: 10}, nil, nil)
	if err == nil || err.Error() != "read image: it ended after 5 of 10 bytes: disk on fire" {
		t.Errorf("error %v", err)
	}
	if op.GetPhase() != undone { // the verb waits for that
		t.Errorf("operation %v", op)
	}
}

func TestDetachingFromAnUploadSaysThatItIsNotWhole(t *testing.T) {
	reader, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	c := dial(t, clienttest.New(clienttest.Config{}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = writer.Write([]byte("12345")) // returns when it is read
		cancel()
	}()
	_, err := c.Stage(ctx, client.Source{Upload: reader, Size: 10}, false, nil)
	detached, ok := errors.AsType[*client.DetachedError](err)
	if !ok || !detached.Uploading {
		t.Fatalf("error %#v", err)
	}
	op, err := c.Watch(t.Context(), detached.Operation, detached.Sequence, nil)
	if op.GetPhase() != undone || client.Kind(err) != "UNAVAILABLE" {
		t.Errorf("operation %v, error %v: it must notice", op, err)
	}
}

func TestACancelledContextDetaches(t *testing.T) {
	why := errors.New("no time")
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}})
	c := dial(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := c.Upgrade(ctx, client.Source{URL: "http://x"}, nil, func(*client.Event) { cancel(why) })
	detached, ok := errors.AsType[*client.DetachedError](err)
	if !ok || detached.Operation != "op-1" || detached.Sequence != 1 || detached.Uploading || !errors.Is(err, why) {
		t.Fatalf("error %#v", err)
	}
	op, err := c.Operation(t.Context(), "op-1")
	if err != nil || op.GetPhase() != operationsv1.Phase_PHASE_DOING {
		t.Errorf("operation %v, error %v: it must go on", op, err)
	}
}

func TestADeadlineDetachesToo(t *testing.T) {
	patience := 30 * time.Millisecond
	for tries := 0; tries < 20; tries++ { // the daemon may notice it first
		c := dial(t, clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}}))
		ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("late"))
		begun := false
		_, err := c.Rollback(ctx, nil, func(*client.Event) { begun = true })
		cancel()
		if !begun && patience < time.Minute { // the machine is busy
			patience *= 2
			tries--
			continue
		}
		if detached, ok := errors.AsType[*client.DetachedError](err); !ok || detached.Unwrap().Error() != "late" {
			t.Fatalf("error %#v", err)
		}
	}
}

func TestACancelledOperationEndsForItsWatcher(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}})
	c := dial(t, s)
	_, err := c.Rollback(t.Context(), nil, func(e *client.Event) {
		if e.GetSequence() == 1 {
			if _, err := c.Cancel(t.Context(), e.GetOperationId()); err != nil {
				t.Error(err)
			}
		}
	})
	if client.Kind(err) != "CANCELLED" {
		t.Errorf("error %v of kind %s", err, client.Kind(err))
	}
	if _, err := c.Cancel(t.Context(), "op-1"); client.Kind(err) != "PRECONDITION" {
		t.Errorf("cancelled twice: %v", err)
	}
}

func TestReadingCallsSurviveALostConnection(t *testing.T) {
	s := clienttest.New(clienttest.Config{Version: "1.0.0"})
	var attempts atomic.Int32
	c := dial(t, s, client.WithDialer(func(ctx context.Context) (net.Conn, error) {
		conn, err := s.Dial(ctx)
		if attempts.Add(1) < 3 {
			_ = conn.Close()
		}
		return conn, err
	}))
	if v, err := c.Version(t.Context()); v != "1.0.0" || err != nil {
		t.Errorf("version %q, error %v", v, err)
	}
	if n := attempts.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestACallThatChangesSomethingIsSentOnce(t *testing.T) {
	s := clienttest.New(clienttest.Config{Status: &selfv1.GetStatusResponse{
		Blocked: []*selfv1.BlockedVersion{{Version: "3.0.0"}}, Images: []*selfv1.Image{{Version: "2.0.0"}},
	}})
	c := dial(t, s)
	for name, call := range map[string]func() error{
		"unblock": func() error { return c.Unblock(t.Context(), "3.0.0") },
		"remove":  func() error { return c.Remove(t.Context(), "2.0.0") },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := call(); client.Kind(err) != "NOT_FOUND" {
			t.Errorf("%s again: %v", name, err)
		}
	}
	st, err := c.Status(t.Context())
	if err != nil || len(st.GetBlocked())+len(st.GetImages()) > 0 {
		t.Errorf("status %v, error %v", st, err)
	}
}

func TestListsAreAsLongAsAskedFor(t *testing.T) {
	s := clienttest.New(clienttest.Config{
		History:    []*selfv1.HistoryEntry{{OperationId: "b"}, {OperationId: "a"}},
		Operations: []*operationsv1.Operation{{Id: "a", Phase: done}, {Id: "b", Phase: operationsv1.Phase_PHASE_DOING}},
	})
	c := dial(t, s)
	if all, err := c.History(t.Context(), 0); len(all) != 2 || err != nil {
		t.Errorf("history %v, error %v", all, err)
	}
	if one, err := c.History(t.Context(), 1); len(one) != 1 || err != nil {
		t.Errorf("history %v, error %v", one, err)
	}
	if all, err := c.Operations(t.Context(), 0, false); len(all) != 2 || all[0].GetId() != "b" || err != nil {
		t.Errorf("operations %v, error %v", all, err)
	}
	if some, err := c.Operations(t.Context(), 0, true); len(some) != 1 || some[0].GetId() != "b" || err != nil {
		t.Errorf("unsettled operations %v, error %v", some, err)
	}
}

// eventually waits for something that another goroutine does and tells nobody.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}
