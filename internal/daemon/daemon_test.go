package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestADaemonServesUntilItIsStoppedAndFreesTheSocket(t *testing.T) {
	root := shortDir(t)
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

func TestAnIdleDaemonExits(t *testing.T) {
	c := testConfig(shortDir(t))
	c.IdleTimeout = 50 * time.Millisecond
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, d.socket)
	conn.Connect() // an open connection without calls does not count
	if err := d.Run(soon(t)); err != nil || t.Context().Err() != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestAFailedStartNamesTheReason(t *testing.T) {
	t.Run("not root", func(t *testing.T) {
		err := checkUser("/", 1000)
		if err == nil || err.Error() != "start tridentd: only root may, and the caller is user ID 1000" || errkind.Hint(err) == "" {
			t.Errorf("got %v", err)
		}
		if err := errors.Join(checkUser("/", 0), checkUser("/tmp/x", 1000)); err != nil {
			t.Error(err)
		}
	})
	t.Run("damaged datastore", func(t *testing.T) {
		c := testConfig(shortDir(t))
		path := filepath.Join(c.Root, hoststate.DefaultPath)
		rubbish := []byte(strings.Repeat("rubbish ", 1000))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, rubbish, 0o600)); err != nil {
			t.Fatal(err)
		}
		d, err := New(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		d.refuseTime = 0
		err = d.Run(t.Context())
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
		c := testConfig(shortDir(t))
		c.Socket = filepath.Join(t.TempDir(), "s")
		l := unixSocket(t, c.Socket)
		defer l.Close()
		_, err := New(t.Context(), c)
		if err == nil || err.Error() != "listen on "+c.Socket+": another process answers there already" {
			t.Errorf("got %v", err)
		}
	})
}

func TestADaemonThatCannotServiceTheHostAnswersEachCallWithTheReason(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		file, text string
		says       string
		code       codes.Code
	}{
		"a damaged datastore":      {hoststate.DefaultPath, strings.Repeat("rubbish ", 1000), "open datastore", codes.Internal},
		"a folder that is a file":  {"var/lib/trident", "", "not a directory", codes.Internal},
		"a datastore that is lost": {"etc/trident/trident.conf", "DatastorePath=here\n", "is not an absolute path", codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(shortDir(t))
			write(t, filepath.Join(config.Root, c.file), c.text)
			d, err := New(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			d.refuseTime = time.Minute
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- d.Run(ctx) }()
			conn := dial(t, d.socket)
			if v, err := tridentv1.NewVersionServiceClient(conn).Version(soon(t), &tridentv1.VersionRequest{}); err != nil || v.GetVersion() != "1.2.3" {
				t.Errorf("version %v, %v", v, err)
			}
			for range 2 { // one that may have waited, and one that comes after
				_, err := hostv1.NewHostServiceClient(conn).GetHost(soon(t), &hostv1.GetHostRequest{})
				if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
					t.Errorf("get host: %v, want %s: %q", err, c.code, c.says)
				}
			}
			stop()
			if err := <-ended; err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Run: %v, want %q", err, c.says)
			}
		})
	}
	t.Run("but a version on trial ends at once", func(t *testing.T) {
		config := testConfig(shortDir(t))
		write(t, filepath.Join(config.Root, hoststate.DefaultPath), strings.Repeat("rubbish ", 1000))
		trial := rescue.File{Dir: filepath.Join(config.Root, rescue.Dir)}
		if err := errors.Join(os.MkdirAll(trial.Dir, 0o700), trial.Begin(rescue.Record{Operation: "O", Target: rescue.Side{Version: "1.2.3"}, Deadline: 60})); err != nil {
			t.Fatal(err)
		}
		d, err := New(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		d.refuseTime = time.Hour
		ctx := soon(t)
		if err := d.Run(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("Run: %v, %v", err, ctx.Err())
		}
	})
}

func TestAnOperationAndItsWatchersOutliveTheDaemon(t *testing.T) {
	for name, end := range map[string]func(*child){
		"stopped": func(c *child) { _ = c.stdin.Close() },
		"killed":  func(c *child) { _ = c.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			root := shortDir(t)
			socket, marker := filepath.Join(root, socketFile), filepath.Join(root, servicing.UnsettledMark)
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
			if last.GetPhase() != operationsv1.Phase_PHASE_UNDONE || last.GetChange().GetFailure().GetReason() != "INVALID" {
				t.Errorf("the operation ended %v", last)
			}
			// The daemon removes the marker after it has sent the last event.
			_ = second.stdin.Close()
			if err := second.Wait(); err != nil {
				t.Errorf("the second daemon ended with %v\n%s", err, second.log)
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the marker is left behind")
			}
		})
	}
}

func TestNoCallIsLostWhenAnIdleDaemonExits(t *testing.T) {
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
		if i%10 == 9 { // else a slow machine has one daemon for all calls
			select {
			case <-a.ended:
			case <-ctx.Done():
				t.Fatal("the idle daemon does not end")
			}
		}
		// The next call comes about when the daemon goes, sooner or later.
		time.Sleep(time.Millisecond + time.Duration(i)*200*time.Microsecond)
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
	mustAnswer(t, filepath.Join(a.root, socketFile)) // its own socket
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
	if err := c.Run(); err == nil || !strings.Contains(c.log.String(), `its name is \"docker.socket\"`) {
		t.Errorf("got %v\n%s", err, c.log)
	}
}

func TestTheDaemonReportsItsStateToSystemd(t *testing.T) {
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
	c := testConfig(shortDir(t))
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

func TestADaemonThatDoesNotAnswerDoesNotNotifyTheWatchdog(t *testing.T) {
	d, err := New(t.Context(), testConfig(shortDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.checkAlive(t.Context(), 100*time.Millisecond); err == nil {
		t.Error("a daemon that does not serve is said to live")
	}
	if err := os.Remove(d.socket); err != nil {
		t.Fatal(err)
	}
	if err := d.checkAlive(t.Context(), 100*time.Millisecond); err != nil {
		t.Errorf("a daemon is to be killed because its socket was removed: %v", err)
	}
}

func TestASocketOfSystemdThatSomebodyRemovedIsMadeAgain(t *testing.T) {
	for _, passed := range []bool{true, false} {
		c := testConfig(shortDir(t))
		fake := &systemdtest.Fake{}
		fake.Define(systemdtest.Definition{Name: "tridentd.socket"})
		c.Systemd = fake
		d, err := New(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.socketIsSystemds = passed
		if err := os.Remove(d.socket); err != nil {
			t.Fatal(err)
		}
		for look := 1; look <= 2; look++ {
			if err := d.checkAlive(t.Context(), time.Second); err != nil {
				t.Error(err)
			}
			want := 0
			if passed && look == 2 {
				want = 1
			}
			if calls := fake.Calls(); len(calls) != want || want == 1 && (calls[0].Method != "Restart" || calls[0].Unit != "tridentd.socket") {
				t.Errorf("passed=%v: after look %d systemd was asked for %+v", passed, look, calls)
			}
		}
	}
}

func TestADaemonStartsAfterOneThatWasKilled(t *testing.T) {
	root := shortDir(t)
	c := startChild(t, root).mustStart(t)
	mustAnswer(t, filepath.Join(root, socketFile))
	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	// The lock went with the process, and its socket is known to be stale.
	_, stop := start(t, testConfig(root))
	stop()
}
