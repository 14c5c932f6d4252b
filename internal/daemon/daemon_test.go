package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
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
	return d.Socket(), stop
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
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestADaemonServesUntilItIsStoppedAndLeavesRoomForTheNext(t *testing.T) {
	root := t.TempDir()
	for range 2 {
		socket, stop := start(t, testConfig(root))
		if want := filepath.Join(root, socketFile); socket != want {
			t.Errorf("socket %s, want %s", socket, want)
		}
		if v, err := api.Check(soon(t), socket); err != nil || v != "1.2.3" {
			t.Errorf("Version %q, %v", v, err)
		}
		status, err := selfv1.NewSelfServiceClient(dial(t, socket)).GetStatus(soon(t), &selfv1.GetStatusRequest{})
		if err != nil || status.GetRunningVersion() != "1.2.3" {
			t.Errorf("GetStatus: %v, %v", status, err)
		}
		if _, err := New(t.Context(), testConfig(root)); errkind.Of(err) != errkind.Busy {
			t.Errorf("a second daemon: %v", err)
		}
		stop()
		if _, err := os.Stat(socket); err == nil {
			t.Error("the socket is left behind")
		}
	}
}

func TestADaemonThatNobodyNeedsGoes(t *testing.T) {
	c := testConfig(t.TempDir())
	c.IdleTimeout = 50 * time.Millisecond
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, d.Socket())
	conn.Connect() // an open connection without calls does not count
	if err := d.Run(soon(t)); err != nil || t.Context().Err() != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestWhatKeepsADaemonFromStarting(t *testing.T) {
	t.Run("not root", func(t *testing.T) {
		err := mayRun("/", 1000)
		if err == nil || err.Error() != "start tridentd: it must be root, and is user 1000" || errkind.Hint(err) == "" {
			t.Errorf("got %v", err)
		}
		if err := errors.Join(mayRun("/", 0), mayRun("/tmp/x", 1000)); err != nil {
			t.Error(err)
		}
	})
	t.Run("damaged datastore", func(t *testing.T) {
		c := testConfig(t.TempDir())
		path := filepath.Join(c.Root, datastoreFile)
		rubbish := []byte(strings.Repeat("rubbish ", 1000))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, rubbish, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := New(t.Context(), c)
		if want := "open datastore " + path + ": "; err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s…", err, want)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != string(rubbish) {
			t.Errorf("the datastore was changed, %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, stop := start(t, c) // nothing that it held is still held
		stop()
	})
	t.Run("the socket is taken", func(t *testing.T) {
		c := testConfig(t.TempDir())
		c.Socket = filepath.Join(t.TempDir(), "s")
		l := unixSocket(t, c.Socket)
		defer l.Close()
		_, err := New(t.Context(), c)
		if err == nil || err.Error() != "listen on "+c.Socket+": somebody answers there already" {
			t.Errorf("got %v", err)
		}
	})
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

func TestAnOperationAndItsWatchersOutliveTheDaemon(t *testing.T) {
	for name, end := range map[string]func(*child){
		"stopped": func(c *child) { _ = c.stdin.Close() },
		"killed":  func(c *child) { _ = c.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			socket, marker := filepath.Join(root, socketFile), filepath.Join(root, markerFile)
			conn := dial(t, socket)
			first := startChild(t, root).mustStart(t)
			stream, id, release := stage(t, conn)
			var got []uint64
			if resp, err := stream.Recv(); err != nil {
				t.Fatal(err)
			} else {
				got = append(got, resp.GetEvent().GetSequence())
			}
			end(first)
			err := error(nil)
			for err == nil {
				var resp *selfv1.StageResponse
				if resp, err = stream.Recv(); err == nil {
					got = append(got, resp.GetEvent().GetSequence())
				}
			}
			if name == "stopped" && !grpckind.IsReattach(err) {
				t.Errorf("the stream ended with %v", err)
			}
			if err := first.Wait(); (err == nil) != (name == "stopped") {
				t.Errorf("the daemon ended with %v\n%s", err, first.log)
			}
			if _, err := os.Stat(marker); err != nil {
				t.Errorf("between two daemons: %v", err)
			}
			second := startChild(t, root).mustStart(t)
			release()
			watch, err := operationsv1.NewOperationsServiceClient(conn).Watch(soon(t), &operationsv1.WatchRequest{Id: id, AfterSequence: got[len(got)-1]})
			if err != nil {
				t.Fatal(err)
			}
			var last *operationsv1.Event
			for {
				resp, err := watch.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("watch: %v\n%s", err, second.log)
				}
				last = resp.GetEvent()
				got = append(got, last.GetSequence())
			}
			for i, n := range got {
				if n != uint64(i+1) {
					t.Fatalf("the events seen are %v", got)
				}
			}
			if last.GetPhase() != operationsv1.Phase_PHASE_UNDONE || last.GetChange().GetFailure().GetReason() != "CORRUPT" {
				t.Errorf("the operation ended %v", last)
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the marker is left behind")
			}
		})
	}
}

// activator does what systemd does for a socket unit: it holds the socket and
// starts the service when somebody connects, until ctx ends.
type activator struct {
	file   *os.File
	socket string
	root   string
	starts int
	faults []string
}

func newActivator(t *testing.T) *activator {
	t.Helper()
	a := &activator{root: t.TempDir()}
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
	}
}

func TestNoCallIsLostWhenAnIdleDaemonGoes(t *testing.T) {
	a := newActivator(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { a.run(ctx, t, envIdle+"=1ms") })
	kept, err := grpc.NewClient("unix:"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	for i := range 30 {
		var err error
		if i%2 == 0 { // without waiting for ready: a refusal would be seen
			_, err = tridentv1.NewVersionServiceClient(kept).Version(ctx, &tridentv1.VersionRequest{})
		} else {
			_, err = api.Check(ctx, a.socket)
		}
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
		// The next call comes about when the daemon goes, sooner or later.
		time.Sleep(time.Millisecond + time.Duration(i%30)*50*time.Microsecond)
	}
	cancel()
	wg.Wait()
	if len(a.faults) > 0 || a.starts < 2 {
		t.Errorf("%d starts, faults %v", a.starts, a.faults)
	}
}

func TestASocketThatIsMeantForAnotherProcessIsNotTaken(t *testing.T) {
	a := newActivator(t)
	c := startChild(t, a.root, "LISTEN_FDS=1", "LISTEN_FDNAMES=tridentd.socket", envListen+"=1")
	c.ExtraFiles = []*os.File{a.file}
	c.mustStart(t)
	if _, err := api.Check(soon(t), filepath.Join(a.root, socketFile)); err != nil {
		t.Errorf("its own socket: %v", err)
	}
	if conn, err := net.Dial("unix", a.socket); err != nil || !a.pending() {
		t.Errorf("somebody took a connection from the other socket, %v", err)
	} else {
		_ = conn.Close()
	}
}

func TestASocketOfAnotherNameIsRefused(t *testing.T) {
	a := newActivator(t)
	c := startChild(t, a.root, "LISTEN_FDS=1", "LISTEN_FDNAMES=docker.socket", envListen+"=self")
	c.ExtraFiles = []*os.File{a.file}
	if err := c.Run(); err == nil || !strings.Contains(c.log.String(), `a socket named \"docker.socket\"`) {
		t.Errorf("got %v\n%s", err, c.log)
	}
}

func TestSystemdIsToldWhatGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	said := make(chan string, 100)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				close(said)
				return
			}
			said <- string(buf[:n])
		}
	}()
	var got []string
	until := func(prefix string) {
		t.Helper()
		ctx := soon(t)
		for {
			select {
			case s := <-said:
				got = append(got, s)
				if strings.HasPrefix(s, prefix) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nobody said %s; what was said is %q", prefix, got)
			}
		}
	}
	c := testConfig(t.TempDir())
	socket, stop := start(t, c)
	until("READY=1")
	if diff := cmp.Diff([]string{"READY=1"}, got); diff != "" {
		t.Errorf("before it was ready (-want +got):\n%s", diff)
	}
	until("WATCHDOG=1")
	until("WATCHDOG=1")
	_, id, release := stage(t, dial(t, socket))
	until("STATUS=stage trident from ")
	if last := got[len(got)-1]; !strings.HasSuffix(last, ": fetch ("+id+")") {
		t.Errorf("status %q", last)
	}
	release()
	until("STATUS=Waiting for calls")
	stop()
	until("STOPPING=1")
}

func TestADaemonThatDoesNotAnswerIsNotFed(t *testing.T) {
	d, err := New(t.Context(), testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.checkLife(t.Context(), 100*time.Millisecond); err == nil {
		t.Error("a daemon that does not serve is said to live")
	}
}

func TestADaemonStartsAfterOneThatWasKilled(t *testing.T) {
	root := t.TempDir()
	c := startChild(t, root).mustStart(t)
	if _, err := api.Check(soon(t), filepath.Join(root, socketFile)); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	// The lock went with the process, and its socket is known to be stale.
	_, stop := start(t, testConfig(root))
	stop()
}
