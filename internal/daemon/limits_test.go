package daemon

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// The environment by which a test starts this binary as a caller.
const (
	envHog    = "TRIDENT_TEST_HOG"    // how many idle connections it keeps
	envRescue = "TRIDENT_TEST_RESCUE" // how often it asks for the version, as the rescuer does
)

// asCaller is a caller in a process of its own.
func asCaller() (code int, ok bool) {
	if n, err := strconv.Atoi(os.Getenv(envHog)); err == nil {
		hog(os.Getenv(envRoot), n)
		return 1, true
	}
	if n, err := strconv.Atoi(os.Getenv(envRescue)); err == nil {
		return askAsRescuer(os.Getenv(envRoot), n), true
	}
	return 0, false
}

// hog keeps n idle connections, and dials again at once when one is closed. Some
// of them say nothing, and some only half of something. It goes when standard
// input ends.
func hog(root string, n int) {
	for i := range n {
		say := [][]byte{preface(), nil, append(preface(), 0, 64, 0, 0)}[i%3]
		go func() {
			for {
				c, err := net.Dial("unix", filepath.Join(root, rescue.Socket))
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				_, _ = c.Write(say)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Println("dialled")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// askAsRescuer fails when one of n questions has no answer in the time that the
// rescuer gives it.
func askAsRescuer(root string, n int) int {
	for i := range n {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := rescue.SystemHost{Root: root}.Version(ctx)
		cancel()
		if err != nil {
			fmt.Printf("question %d: %v\n", i, err)
			return 1
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0
}

// preface is what an HTTP/2 client begins with.
func preface() []byte {
	return append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
}

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// shortRoot is a folder for a daemon: the path of a socket has to be short.
func shortRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	return root
}

// serveApart is a daemon in a process of its own, which answers.
func serveApart(t *testing.T) (root string, daemon *child) {
	t.Helper()
	root = shortRoot(t)
	daemon = startChild(t, root).mustStart(t)
	mustAnswer(t, filepath.Join(root, rescue.Socket))
	return root, daemon
}

// startHogs starts processes that keep connections each, and waits until they
// have dialled.
func startHogs(t *testing.T, root string, processes, each int) {
	t.Helper()
	var out []io.Reader
	for range processes {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), envHog+"="+strconv.Itoa(each), envRoot+"="+root)
		stdin, err := c.StdinPipe()
		stdout, oerr := c.StdoutPipe()
		if err := errors.Join(err, oerr, c.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stdin.Close(); _ = c.Process.Kill(); _ = c.Wait() })
		out = append(out, stdout)
	}
	for _, r := range out {
		if _, err := io.ReadFull(r, make([]byte, len("dialled"))); err != nil {
			t.Fatalf("a caller did not dial: %v", err)
		}
	}
}

func TestIdleConnectionsLockNobodyOut(t *testing.T) {
	for _, c := range []struct{ processes, each int }{{1, 63}, {1, 64}, {1, 1500}, {8, 64}, {70, 1}} {
		t.Run(fmt.Sprintf("%d times %d", c.processes, c.each), func(t *testing.T) {
			t.Parallel() // each has a daemon of its own, and mostly waits
			root, daemon := serveApart(t)
			socket := filepath.Join(root, rescue.Socket)
			watch, err := healthpb.NewHealthClient(dial(t, socket)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
			if err == nil {
				_, err = watch.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { _, err := watch.Recv(); ended <- err }()

			startHogs(t, root, c.processes, c.each)
			programs := []string{copyOfTest(t, "trident-rescue"), copyOfTest(t, "trident")}
			if c.processes < 48 { // any other program, too, which has no connection yet
				programs = append(programs, os.Args[0])
			}
			var asking sync.WaitGroup
			for _, program := range programs {
				asking.Go(func() {
					caller := exec.Command(program)
					caller.Env = append(os.Environ(), envRescue+"=20", envRoot+"="+root)
					if out, err := caller.CombinedOutput(); err != nil {
						t.Errorf("%s: %s", program, out)
					}
				})
			}
			asking.Wait()
			select {
			case err := <-ended:
				t.Errorf("a stream that was open ended: %v", err)
			default:
			}
			_ = daemon.Process.Kill()
			_ = daemon.Wait()
			if n := strings.Count(daemon.log.String(), "\n"); n > 100 {
				t.Errorf("%d log lines", n)
			}
		})
	}
}

// copyOfTest is this program by another name.
func copyOfTest(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if os.Link(os.Args[0], path) == nil {
		return path
	}
	data, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(path, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The daemon's own health check decides whether it lives, and whether a new
// version is kept.
func TestIdleConnectionsDoNotStarveTheDaemonItself(t *testing.T) {
	c := testConfig(shortRoot(t))
	socket, _ := start(t, c)
	startHogs(t, c.Root, 4, 64)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := api.Check(ctx, socket); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

func TestARefusedConnectionGetsAMessageAndAHint(t *testing.T) {
	root, _ := serveApart(t)
	socket := filepath.Join(root, rescue.Socket)
	for range 16 { // each with a call, or it would make room
		stream, err := healthpb.NewHealthClient(dial(t, socket)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := tridentv1.NewVersionServiceClient(dial(t, socket)).Version(soon(t), &tridentv1.VersionRequest{})
	kind, hint, _ := grpckind.FromError(err)
	want := fmt.Sprintf("process %d has 16 connections, and may have 16", os.Getpid())
	if kind != errkind.TooLarge || !strings.Contains(err.Error(), want) || hint == "" {
		t.Errorf("kind %s, hint %q, %v", kind, hint, err)
	}
}

// A leaky client that makes a connection for each call hears nothing of it.
func TestAnOldIdleConnectionMakesRoomForItsOwnProcess(t *testing.T) {
	t.Parallel() // mostly waits
	root, _ := serveApart(t)
	socket := filepath.Join(root, rescue.Socket)
	for i := range 20 {
		conn := dial(t, socket)
		for ctx := soon(t); ; {
			_, err := tridentv1.NewVersionServiceClient(conn).Version(ctx, &tridentv1.VersionRequest{})
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// heldBack sends all of a message but its end on as many streams as it can, over
// one connection, until the connection ends.
func heldBack(conn net.Conn, method string, streams, size int) {
	const window, part = 65535, 16 << 10
	headers := literals(":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "content-type", "application/grpc", "te", "trailers")
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
	b, missing, may := preface(), map[uint32]int{}, map[uint32]int{}
	for stream := uint32(1); int(stream) < 2*streams; stream += 2 {
		b = append(append(b, frame(1, 4, stream, headers)...), frame(0, 0, stream, prefix)...)
		missing[stream], may[stream] = size-1, window-len(prefix)
	}
	parts := frame(0, 0, 0, make([]byte, part))
	out := make(chan uint32, 1<<20) // streams on which a part may be sent
	defer close(out)
	go func() {
		_, err := conn.Write(b)
		for stream := range out {
			if err == nil {
				binary.BigEndian.PutUint32(parts[5:], stream)
				_, err = conn.Write(parts)
			}
		}
		_ = conn.Close()
	}()
	send := func(stream uint32) {
		for missing[stream] >= part && may[stream] >= part {
			missing[stream], may[stream] = missing[stream]-part, may[stream]-part
			out <- stream
		}
	}
	for stream := range missing {
		send(stream)
	}
	for r := bufio.NewReader(conn); ; {
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		stream := binary.BigEndian.Uint32(head[5:])
		if head[3] == 8 { // WINDOW_UPDATE
			may[stream] += int(binary.BigEndian.Uint32(payload))
			send(stream)
		}
	}
}

// literals are header fields that no table has (RFC 7541, section 6.2.2).
func literals(fields ...string) (b []byte) {
	for i, f := range fields {
		if i%2 == 0 {
			b = append(b, 0)
		}
		b = append(append(b, byte(len(f))), f...)
	}
	return b
}

func TestMessagesThatAreHeldBackCostLittle(t *testing.T) {
	const most = 160 << 20 // beyond what the daemon has when it is idle
	version, upload, watch := tridentv1.VersionService_Version_FullMethodName, "/trident.handles.v1.HandleService/OpenImage", operationsv1.OperationsService_Watch_FullMethodName
	for _, c := range []struct {
		method string
		size   int
	}{{version, 4 << 20}, {version, 1 << 20}, {watch, 1 << 20}, {upload, 1 << 20}} {
		t.Run(fmt.Sprintf("%s of %d", c.method, c.size), func(t *testing.T) {
			root, daemon := serveApart(t)
			socket := filepath.Join(root, rescue.Socket)
			before := residentOf(t, daemon.Process.Pid)
			var ended atomic.Int32
			for range 6 {
				go func() {
					for t.Context().Err() == nil {
						if conn, err := net.Dial("unix", socket); err == nil {
							context.AfterFunc(t.Context(), func() { _ = conn.Close() })
							heldBack(conn, c.method, 128, c.size)
							_ = conn.Close()
							ended.Add(1)
						}
					}
				}()
			}
			// Until the daemon has ended each connection several times. It ends none if it
			// refuses every message for its size.
			for end := time.Now().Add(time.Second); ended.Load() < 18 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if now := residentOf(t, daemon.Process.Pid); now-before > most {
					t.Fatalf("the daemon grew by %d MiB", (now-before)>>20)
				}
			}
			t.Logf("the daemon grew by %d MiB", (residentOf(t, daemon.Process.Pid)-before)>>20)
			own := exec.Command(copyOfTest(t, "trident-rescue"))
			own.Env = append(os.Environ(), envRescue+"=5", envRoot+"="+root)
			if out, err := own.CombinedOutput(); err != nil {
				t.Errorf("the rescuer meanwhile: %s", out)
			}
		})
	}
}

// residentOf is the most memory that a process has had, in bytes.
func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, serr := fmt.Sscan(rest, &kib); err != nil || !ok || serr != nil {
		t.Fatalf("read the memory of process %d: %v", pid, errors.Join(err, serr))
	}
	return kib << 10
}

func TestEachMethodLimitsTheSizeOfItsRequests(t *testing.T) {
	socket, _ := start(t, testConfig(shortRoot(t)))
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := operationsv1.NewOperationsServiceClient(conn)
	for n, want := range map[int]errkind.Kind{60 << 10: errkind.NotFound, 65 << 10: errkind.TooLarge, 3 << 20: errkind.TooLarge} {
		id := strings.Repeat("x", n)
		_, err := client.Get(soon(t), &operationsv1.GetRequest{Id: id})
		if kind, _, _ := grpckind.FromError(err); kind != want {
			t.Errorf("%d bytes: %v", n, err)
		}
		stream, err := client.Watch(soon(t), &operationsv1.WatchRequest{Id: id})
		if err == nil {
			_, err = stream.Recv()
		}
		if kind, _, _ := grpckind.FromError(err); kind != want {
			t.Errorf("%d bytes in a stream: %v", n, err)
		}
	}
}
