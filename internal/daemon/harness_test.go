package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/trident-project/trident/internal/systemd/systemdtest"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// The environment by which a test starts this binary as a daemon.
const (
	envRoot = "TRIDENT_TEST_ROOT"
	envIdle = "TRIDENT_TEST_IDLE"
	// envListen is the LISTEN_PID that the daemon finds: "self" or a number.
	envListen = "TRIDENT_TEST_LISTEN_PID"
)

func TestMain(m *testing.M) {
	if code, ok := asCaller(); ok {
		os.Exit(code)
	}
	if root := os.Getenv(envRoot); root != "" {
		os.Exit(asDaemon(root))
	}
	os.Exit(m.Run())
}

func asDaemon(root string) int {
	if pid := os.Getenv(envListen); pid == "self" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	} else if pid != "" {
		_ = os.Setenv("LISTEN_PID", pid)
	}
	idle, _ := time.ParseDuration(os.Getenv(envIdle))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the parent lets go of standard input to have us stop
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	c := testConfig(root)
	c.IdleTimeout, c.Logger = idle, slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := Run(ctx, c); err != nil {
		c.Logger.Error("run", "error", err)
		return 1
	}
	return 0
}

func testConfig(root string) Config {
	return Config{Root: root, Version: "1.2.3", Systemd: &systemdtest.Fake{}, Logger: slog.New(slog.DiscardHandler)}
}

// shortDir is t.TempDir without the name of the test, for the path of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// start runs a daemon in this process. stop stops it and waits.
func start(t *testing.T, c Config) (socket string, stop func()) {
	t.Helper()
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return d.socket, stop
}

// child is a daemon in a process of its own.
type child struct {
	*exec.Cmd
	stdin io.Closer
	log   *strings.Builder
}

func startChild(t *testing.T, root string, env ...string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0]), log: &strings.Builder{}}
	c.Env = append(os.Environ(), append(env, envRoot+"="+root)...)
	c.Stderr = c.log
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	return c
}

func (c *child) mustStart(t *testing.T) *child {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	soon := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: time.Minute}), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// mustAnswer waits until a daemon answers on a socket, which it may not have made yet.
func mustAnswer(t *testing.T, socket string) {
	t.Helper()
	conn := dial(t, socket)
	if _, err := tridentv1.NewVersionServiceClient(conn).Version(soon(t), &tridentv1.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// stage begins to stage an image from a server that does not answer until
// release is closed, and then with rubbish.
func stage(t *testing.T, conn *grpc.ClientConn) (grpc.BidiStreamingClient[selfv1.StageRequest, selfv1.StageResponse], string, func()) {
	t.Helper()
	hold, asked := make(chan struct{}), make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-hold:
			_, _ = w.Write(make([]byte, 1<<20))
		case <-r.Context().Done():
		}
	}))
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(func() { release(); server.CloseClientConnections(); server.Close() })
	stream, err := selfv1.NewSelfServiceClient(conn).Stage(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: &selfv1.StageRequest_Start{
		Source: &selfv1.Source{From: &selfv1.Source_Url{Url: server.URL + "/trident.raw"}},
	}}})
	header, herr := stream.Header()
	if err := errors.Join(err, herr); err != nil || len(header.Get("trident-operation-id")) != 1 {
		t.Fatalf("stage: %v, header %v", err, header)
	}
	<-asked
	return stream, header.Get("trident-operation-id")[0], release
}

// activator does what systemd does for a socket unit: it holds the socket and
// starts the service when somebody connects, until ctx ends.
type activator struct {
	file   *os.File
	socket string
	root   string
	starts int
	faults []string
	ended  chan struct{} // gets a value for each service that has ended without a fault
}

func newActivator(t *testing.T) *activator {
	t.Helper()
	a := &activator{root: shortDir(t), ended: make(chan struct{}, 1000)}
	a.socket = filepath.Join(a.root, "activated")
	l := unixSocket(t, a.socket)
	l.SetUnlinkOnClose(false)
	var err error
	if a.file, err = l.File(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	t.Cleanup(func() { _ = a.file.Close() })
	return a
}

// pending waits a little for a connection that nobody has accepted.
func (a *activator) pending() bool {
	fds := []unix.PollFd{{Fd: int32(a.file.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 50)
	return err == nil && n == 1
}

func (a *activator) run(ctx context.Context, t *testing.T, env ...string) {
	for ctx.Err() == nil {
		if !a.pending() {
			continue
		}
		c := startChild(t, a.root, append(env, "LISTEN_FDS=1", "LISTEN_FDNAMES=tridentd.socket", envListen+"=self")...)
		c.ExtraFiles = []*os.File{a.file}
		a.starts++
		if err := c.Run(); err != nil {
			a.faults = append(a.faults, err.Error()+"\n"+c.log.String())
			return
		}
		a.ended <- struct{}{}
	}
}
