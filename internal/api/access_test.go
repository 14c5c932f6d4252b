package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestEveryMethodHasARuleAndEveryRuleAMethod(t *testing.T) {
	f := newFixture(t)
	var methods, rules []string
	for service, info := range f.server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, "/"+service+"/"+m.Name)
		}
	}
	for method, r := range access() {
		rules = append(rules, method)
		if r.may != root && r.may != anyone {
			t.Errorf("nobody may call %s", method)
		}
	}
	slices.Sort(methods)
	slices.Sort(rules)
	if diff := cmp.Diff(methods, rules); diff != "" {
		t.Errorf("-methods +rules:\n%s", diff)
	}
}

func TestOnlyVersionHandshakeHealthAndReflectionAreForAnyone(t *testing.T) {
	for method, r := range access() {
		open := method == tridentv1.VersionService_Version_FullMethodName || method == setupv1.SetupService_Handshake_FullMethodName ||
			strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
		if got := r.may == anyone; got != open {
			t.Errorf("%s: anyone may call it: %t", method, got)
		}
	}
}

func TestTheAccessTableDecidesWhoMayCall(t *testing.T) {
	const upgrade, version = selfv1.SelfService_Upgrade_FullMethodName, tridentv1.VersionService_Version_FullMethodName
	for _, c := range []struct {
		name    string
		method  string
		uid     uint32
		alsoUID uint32
		want    string
	}{
		{"root", upgrade, 0, 0, ""},
		{"a user", upgrade, 1000, 0, "/trident.self.v1.SelfService/Upgrade: only root may call it, and the caller is user ID 1000"},
		{"the user of a test", upgrade, 1000, 1000, ""},
		{"another user than that of a test", upgrade, 1001, 1000, "/trident.self.v1.SelfService/Upgrade: only root may call it, and the caller is user ID 1001"},
		{"a user for what is open to anyone", version, 1000, 0, ""},
		{"root for what is in no table", "/x/Y", 0, 0, "/x/Y: nobody may call it: it is not in the access table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate(Config{AlsoUID: c.alsoUID, Servicing: &fakeServicing{}, Logger: slog.New(slog.DiscardHandler)})
			ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{uid: c.uid, pid: 1}})
			called := false
			_, err := g.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: c.method}, func(context.Context, any) (any, error) {
				called = true
				return nil, nil
			})
			if got := status.Convert(err).Message(); got != c.want || called != (c.want == "") {
				t.Errorf("called %t, %q, want %q", called, got, c.want)
			}
			if err != nil && status.Code(err) != codes.PermissionDenied {
				t.Errorf("code %s", status.Code(err))
			}
		})
	}
}

func TestAServerWithoutAHostSaysSo(t *testing.T) {
	g := newGate(Config{Logger: slog.New(slog.DiscardHandler)})
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{pid: 1}})
	var works []string
	for method, rule := range access() {
		called := false
		_, err := g.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			called = true
			return nil, nil
		})
		if called && rule.may == root {
			works = append(works, method)
		}
		if !called && status.Code(err) != codes.Unimplemented || called && err != nil {
			t.Errorf("%s: called %t, %v", method, called, err)
		}
	}
	slices.Sort(works)
	want := []string{
		"/trident.handles.v1.HandleService/Close", "/trident.handles.v1.HandleService/OpenConfig", "/trident.handles.v1.HandleService/OpenImage",
		"/trident.host.v1.HostService/ValidateConfig", "/trident.v1preview.ValidationService/ValidateHostConfiguration",
	}
	if diff := cmp.Diff(want, works); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnknownCallerIsRefused(t *testing.T) {
	g := newGate(Config{Logger: slog.New(slog.DiscardHandler)})
	info := &grpc.UnaryServerInfo{FullMethod: tridentv1.VersionService_Version_FullMethodName}
	_, err := g.unary(t.Context(), nil, info, func(context.Context, any) (any, error) {
		t.Error("called")
		return nil, nil
	})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}

// A daemon that never came to read its journal has not told or done anything that
// depends on it.
func TestCallsThatNeedTheJournalWaitUntilItIsRead(t *testing.T) {
	runner := operation.New(t.Context(), operation.Config{Journal: operationtest.NewMemory(), Logger: slog.New(slog.DiscardHandler)})
	g := newGate(Config{Operations: runner, Servicing: &fakeServicing{}, Logger: slog.New(slog.DiscardHandler)})
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{pid: 1}})
	if err := runner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for method := range access() {
		early := method == tridentv1.VersionService_Version_FullMethodName || method == setupv1.SetupService_Handshake_FullMethodName ||
			strings.HasPrefix(method, "/grpc.reflection.")
		called := false
		_, err := g.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			called = true
			return nil, nil
		})
		if called != early || early != (err == nil) {
			t.Errorf("%s: called %t, %v", method, called, err)
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			t.Errorf("%s: code %s", method, status.Code(err))
		}
	}
}

func TestAPanicIsAnErrorOfOneCall(t *testing.T) {
	log := &lines{}
	g := newGate(Config{Servicing: &fakeServicing{}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{}})
	info := &grpc.UnaryServerInfo{FullMethod: tridentv1.VersionService_Version_FullMethodName}
	_, err := g.unary(ctx, nil, info, func(context.Context, any) (any, error) { panic("oh") })
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "panic: oh") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "stack=") {
		t.Errorf("the log has no stack: %s", log)
	}
}

// Whatever one process does: the log has room for the calls of others, and for what
// tridentd says besides.
func TestAFloodOfCallsDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		g := newGate(Config{Servicing: &fakeServicing{}, Logger: slog.New(slog.NewTextHandler(log, nil))})
		info := &grpc.UnaryServerInfo{FullMethod: selfv1.SelfService_GetStatus_FullMethodName}
		calls := func(pid int32, n int) {
			ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{pid: pid, isRoot: true}})
			for range n {
				if _, err := g.unary(ctx, nil, info, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		count := func(text string) int { return strings.Count(log.String(), text) }
		calls(7, 100_000)
		if n := count("msg=call "); n != burstOfLines {
			t.Errorf("%d calls at once made %d lines", 100_000, n)
		}
		if n := count("calls are not logged"); n != 1 {
			t.Errorf("%d lines say that calls are not logged", n)
		}
		calls(8, 1)
		if n := count("pid=8 "); n != 1 {
			t.Errorf("the call of another process made %d lines", n)
		}
		time.Sleep(30 * time.Second)
		before := count("msg=call ")
		calls(7, 100_000)
		if n := count("msg=call ") - before; n != burstOfLines {
			t.Errorf("after a silence, %d lines", n)
		}
		if !strings.Contains(log.String(), "omitted=99799") {
			t.Error("nobody says how many calls were not logged")
		}
	})
}

func TestCallsFromOutsideAreCounted(t *testing.T) {
	for _, c := range []struct {
		name string
		pid  int32
		want []string
	}{{"from outside", 1, []string{"begin", "call", "end"}}, {"from ourselves", int32(os.Getpid()), []string{"call"}}} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			g := newGate(Config{Logger: slog.New(slog.DiscardHandler), Begin: func() func() {
				got = append(got, "begin")
				return func() { got = append(got, "end") }
			}})
			ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{pid: c.pid}})
			info := &grpc.UnaryServerInfo{FullMethod: tridentv1.VersionService_Version_FullMethodName}
			if _, err := g.unary(ctx, nil, info, func(context.Context, any) (any, error) {
				got = append(got, "call")
				return nil, nil
			}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func testListener(t *testing.T) (*Listener, *lines) {
	t.Helper()
	raw, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	l := Listen(raw, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { _ = l.Close() })
	return l, log
}

func dialRaw(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestThePeerIsWhoTheKernelSays(t *testing.T) {
	l, _ := testListener(t)
	dialRaw(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, want := c.(*conn).peer, (peerInfo{uid: uint32(os.Geteuid()), pid: int32(os.Getpid()), isRoot: true}); got != want {
		t.Errorf("peer %+v, want %+v", got, want)
	}
}

func TestAClosedConnectionMakesRoomOnce(t *testing.T) {
	l, _ := testListener(t)
	dialRaw(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = c.Close()
	}
	if n := len(l.roster.open); n != 0 || l.raw != 0 {
		t.Errorf("%d open, %d not taken over", n, l.raw)
	}
}

func TestSettleWaitsForAcceptedConnections(t *testing.T) {
	l, _ := testListener(t)
	dialRaw(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken := make(chan struct{})
	go func() {
		close(taken)
		if _, _, err := (peerCredentials{}).ServerHandshake(c); err != nil {
			t.Error(err)
		}
	}()
	l.settle()
	select {
	case <-taken:
	default:
		t.Error("settled before the connection was taken over")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after settle: %v", err)
	}
}

// A connection that the kernel has handed over, and that Accept has not counted yet, is served.
func TestSettleWaitsForAConnectionThatIsBeingAccepted(t *testing.T) {
	l, _ := testListener(t)
	socket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	l.memory.mu.Lock() // Accept stops here
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	dialRaw(t, l)
	for { // until Accept has the connection
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}, 0)
		if err == nil && n == 0 {
			break
		}
		runtime.Gosched()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-l.settled:
		t.Error("settled although a connection is being accepted")
	default:
	}
	l.memory.mu.Unlock()
	c := <-accepted
	if c == nil {
		return
	}
	select {
	case <-l.settled:
		t.Error("settled although gRPC does not serve the connection")
	default:
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-l.settled
}

func TestOnlyOurUnixSocketGetsThrough(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, err := (peerCredentials{}).ServerHandshake(a); err == nil {
		t.Error("a pipe got through")
	}
	if _, _, err := (peerCredentials{}).ClientHandshake(t.Context(), "", a); err == nil {
		t.Error("a client used the server's credentials")
	}
}
