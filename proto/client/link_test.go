package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// servers dials targets by name; nil is one that cannot be reached.
type servers map[string]*clienttest.Server

func (s servers) dial(ctx context.Context, target string) (net.Conn, error) {
	if s[target] == nil {
		return nil, errors.New("no route to " + target)
	}
	return s[target].Dial(ctx)
}

func (s servers) client(t *testing.T, target string, options ...client.Option) *client.Client {
	t.Helper()
	for _, one := range s {
		if one != nil {
			t.Cleanup(one.Close)
		}
	}
	c, err := client.Dial(target, append([]client.Option{client.WithTargetDialer(s.dial)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What is opened over a connection lives no longer than the connection does.
func TestAConnectionIsKeptFromItsHandshakeOn(t *testing.T) {
	for range 100 {
		s := clienttest.New(clienttest.Config{})
		c := dial(t, s)
		for range 3 {
			if _, err := c.Server(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(s, setupv1.SetupService_Handshake_FullMethodName); n != 1 {
			t.Fatalf("%d handshakes", n)
		}
		_ = c.Close()
		s.Close()
	}
}

func TestEveryConnectionBeginsWithAHandshake(t *testing.T) {
	s := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0"})
	c := dial(t, s, client.WithName("fleet", "7"))
	first, err := c.Server(t.Context())
	if err != nil || first.GetServerVersion() != "1.0.0" || first.GetHostId() == "" {
		t.Fatalf("server %v, %v", first, err)
	}
	for range 3 {
		if _, err := c.Version(t.Context()); err != nil {
			t.Error(err)
		}
	}
	s.Restart()
	if _, err := c.Version(t.Context()); err != nil {
		t.Error(err)
	}
	next, err := c.Server(t.Context())
	if err != nil || next.GetServerVersion() != "2.0.0" || next.GetDaemonId() == first.GetDaemonId() {
		t.Errorf("server %v, %v after the restart", next, err)
	}
	if n := count(s, setupv1.SetupService_Handshake_FullMethodName); n != 2 {
		t.Errorf("%d handshakes", n)
	}
	if err := c.Require(t.Context(), "operations", "request-ids"); err != nil {
		t.Error(err)
	}
	err = c.Require(t.Context(), "operations", "teleport", "time-travel")
	if client.Kind(err) != "PRECONDITION" || !strings.Contains(err.Error(), "2.0.0") || !strings.Contains(err.Error(), "lacks teleport, time-travel") {
		t.Errorf("what is lacking: %v", err)
	}
}

func TestAnAlternativeIsTriedAndKept(t *testing.T) {
	all := servers{"a": nil, "b": clienttest.New(clienttest.Config{Version: "b"}), "c": clienttest.New(clienttest.Config{Version: "c"})}
	c := all.client(t, "a", client.WithAlternatives("b", "c"))
	for range 2 {
		if v, err := c.Version(t.Context()); v != "b" || err != nil {
			t.Fatalf("version %q, %v", v, err)
		}
		all["a"] = clienttest.New(clienttest.Config{Version: "a"})
		t.Cleanup(all["a"].Close)
		all["b"].Restart()
	}
	all["b"].Restart()
	delete(all, "b")
	if v, err := c.Version(t.Context()); v != "c" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
}

func TestAWatchGoesOnOverAnotherWayToTheSameHostOnly(t *testing.T) {
	begin := []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}
	ended := []*operationsv1.Operation{{Id: "op-1", Phase: done}}
	for name, tt := range map[string]struct {
		other clienttest.Config
		same  bool
	}{
		"the same host":          {clienttest.Config{HostID: "one", Operations: ended}, true},
		"another host":           {clienttest.Config{HostID: "two", Operations: ended}, false},
		"a host that is unknown": {clienttest.Config{Upstream: true, Operations: ended}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := servers{"a": clienttest.New(clienttest.Config{HostID: "one", Script: begin}), "b": clienttest.New(tt.other)}
			a := all["a"]
			var connections, others atomic.Int32 // from the second on, a is down
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := all.client(t, "a", client.WithAlternatives("b"), client.WithTargetDialer(func(ctx context.Context, target string) (net.Conn, error) {
				if target == "a" && connections.Add(1) > 1 {
					return nil, errors.New("down")
				}
				if target == "b" && others.Add(1) > 3 && !tt.same {
					cancel() // it has been tried often enough
				}
				return all.dial(ctx, target)
			}))
			_, err := c.Upgrade(ctx, client.Source{URL: "http://x"}, nil, func(*client.Event) { go a.Restart() })
			if _, detached := errors.AsType[*client.DetachedError](err); detached == tt.same || (err == nil) != tt.same {
				t.Errorf("error %v", err)
			}
			if n := count(all["b"], operationsv1.OperationsService_Watch_FullMethodName); (n > 0) != tt.same {
				t.Errorf("%d watches there", n)
			}
			_, err = c.Version(ctx)
			if !tt.same && client.Kind(err) == "" {
				t.Error("another host answers")
			}
		})
	}
}

func TestAnErrorNamesEveryAlternative(t *testing.T) {
	c := servers{}.client(t, "a", client.WithAlternatives("b"))
	_, err := c.Version(t.Context())
	connect, ok := errors.AsType[*client.ConnectError](err)
	if !ok || connect.Target != "a, b" || !strings.Contains(err.Error(), "no route to a") || !strings.Contains(err.Error(), "no route to b") {
		t.Errorf("error %v", err)
	}
	if client.Kind(err) != "UNAVAILABLE" {
		t.Errorf("kind %s", client.Kind(err))
	}
}

func TestACallWithoutADeadlineHasOne(t *testing.T) {
	s := clienttest.New(clienttest.Config{})
	slow := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if method == tridentv1.VersionService_Version_FullMethodName {
			<-ctx.Done()
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
	c := dial(t, s, client.WithGRPC(slow), client.WithTimeout(20*time.Millisecond))
	_, err := c.Version(t.Context())
	if client.Kind(err) != "TIMEOUT" || !client.Retriable(err) || !strings.Contains(err.Error(), "20ms") {
		t.Errorf("error %v of kind %s", err, client.Kind(err))
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{}))
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Version(t.Context()); client.Kind(err) != "CANCELLED" {
		t.Errorf("error %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestTargets(t *testing.T) {
	for target, ok := range map[string]bool{
		"/run/x.sock": true, "unix:///run/x.sock": true, "tls://host:1": true, "tls://host": false, "http://host:1": false, "": false,
	} {
		c, err := client.Dial(target)
		if (err == nil) != ok || (!ok && client.Kind(err) != "INVALID") {
			t.Errorf("%q: %v", target, err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

// A daemon that goes away tells its connections so and lets the calls that run
// come to their end.
func TestACallSurvivesAGoAway(t *testing.T) {
	s := clienttest.New(clienttest.Config{Version: "1.0.0", Script: []*operationsv1.Event{clienttest.Step(0, "fetch", nil)}})
	c := dial(t, s)
	_, err := c.Upgrade(t.Context(), client.Source{URL: "http://x"}, nil, func(e *client.Event) {
		if e.GetSequence() != 1 {
			return
		}
		go s.Drain()
		eventually(t, func() bool {
			_, err := c.Version(t.Context()) // over a new connection, once the old one takes no more
			return err == nil && count(s, setupv1.SetupService_Handshake_FullMethodName) == 2
		})
		if _, err := c.Cancel(t.Context(), e.GetOperationId()); err != nil {
			t.Error(err)
		}
	})
	if client.Kind(err) != "CANCELLED" {
		t.Errorf("error %v", err)
	}
	if n := count(s, operationsv1.OperationsService_Watch_FullMethodName); n != 0 {
		t.Errorf("the stream was lost: watched again %d times", n)
	}
}
