package api

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/trident-project/trident/internal/api/machine"
	"github.com/trident-project/trident/internal/api/updating"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/updates/settings"
)

// lines collects what was logged.
type lines struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	waiting string
	found   chan struct{} // closed once waiting is in buf
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.buf.Write(p)
	if l.found != nil && strings.Contains(l.buf.String(), l.waiting) {
		close(l.found)
		l.found = nil
	}
	return n, err
}

// wait waits until a text has been logged.
func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	l.mu.Lock()
	if strings.Contains(l.buf.String(), text) {
		l.mu.Unlock()
		return
	}
	found := make(chan struct{})
	l.waiting, l.found = text, found
	l.mu.Unlock()
	select {
	case <-found:
	case <-time.After(4 * time.Minute):
		t.Fatalf("the log does not say %q", text)
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// fixture is a server on a real socket, over a journal in memory, and a
// connection to it.
type fixture struct {
	server   *Server
	listener *Listener
	runner   *operation.Runner
	socket   string
	log      *lines
	conn     *grpc.ClientConn
	served   chan error
	// work begins an operation of two steps; each runs until go ahead is sent.
	work    func(summary ...string) string
	goAhead chan error
	root    string
	store   *hoststate.Store
	host    *fakeServicing

	handles handleCount
}

// handleCount counts open handles, by the calls of Config.Begin: calls of this
// process do not call it, and those of tests are.
type handleCount struct {
	mu      sync.Mutex
	open    int
	changed chan struct{}
}

func (c *handleCount) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait waits until so many handles are open.
func (c *handleCount) wait(t *testing.T, want int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		c.mu.Lock()
		open, changed := c.open, c.changed
		c.mu.Unlock()
		if open == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d handles are open, want %d", open, want)
		}
	}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixtureIn(t, operationtest.NewMemory(), "boot 1")
	f.resume(t)
	return f
}

func (f *fixture) resume(t *testing.T) {
	t.Helper()
	if err := f.runner.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newFixtureIn is the daemon of a boot of a host that has a journal already.
func newFixtureIn(t *testing.T, journal operation.Journal, boot string) *fixture {
	t.Helper()
	f := &fixture{log: &lines{}, served: make(chan error, 1), goAhead: make(chan error), handles: handleCount{changed: make(chan struct{})}}
	logger := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	f.runner = operation.New(t.Context(), operation.Config{Journal: journal, Life: operation.Life{Boot: boot}, Logger: logger})
	step := func(ctx context.Context, r *operation.Run[struct{}]) error {
		r.Logf(slog.LevelInfo, "at work")
		select {
		case err := <-f.goAhead:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	start := operation.Register(f.runner, operation.Kind[struct{}]{
		Name: "work", Steps: []operation.Step[struct{}]{{Name: "one", Do: step}, {Name: "two", Do: step}},
	})
	f.work = func(summary ...string) string {
		op, err := start(t.Context(), strings.Join(append(summary, "do some work")[:1], ""), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return op.ID
	}
	f.socket = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	f.root, f.host = root, newFakeServicing(f.runner)
	store, err := hoststate.Open(t.Context(), filepath.Join(root, "datastore"))
	if err != nil {
		t.Fatal(err)
	}
	f.store = store
	t.Cleanup(func() { _ = store.Close() })
	self := selfservice.New(selfservice.Config{
		Root: root, Version: "1.2.3", Runner: f.runner, Store: store, Systemd: &systemdtest.Fake{}, Tools: run.Host{}, Logger: logger,
	})
	owner := settings.Settings{Root: root, Store: store}
	f.listener = Listen(l, logger)
	f.server = New(Config{
		Root: root, HostID: func() string { return hostinfo.ID(root) }, Version: "1.2.3", Self: self, Operations: f.runner, Store: store, Servicing: f.host, Updates: &updating.Server{Settings: owner, Finder: updates.New(updates.Config{
			Root: root, Version: "1.2.3", Policy: owner.Policy, Logger: logger,
			Self: func(context.Context, updates.Policy) (updates.Self, error) { return updates.Self{}, nil },
		})}, Control: testControl(t.Context(), root, f.runner), System: machine.NewSystem("/"), Logger: logger, AlsoUID: uint32(os.Geteuid()),
		Begin: func() func() { f.handles.add(1); return func() { f.handles.add(-1) } },
	})
	go func() { f.served <- f.server.Serve(f.listener) }()
	f.conn = dial(t, f.socket)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = f.runner.Shutdown(ctx)
		f.server.Stop(ctx, f.listener)
		if err := <-f.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
