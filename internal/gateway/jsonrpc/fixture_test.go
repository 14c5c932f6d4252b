package jsonrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/load"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/uploads"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// daemon is in place of tridentd.
type daemon struct {
	selfv1.UnimplementedSelfServiceServer
	operationsv1.UnimplementedOperationsServiceServer
	tridentv1.UnimplementedVersionServiceServer
	handlesv1.UnimplementedHandleServiceServer
	machinev1.UnimplementedLogServiceServer

	mu       sync.Mutex
	upgrade  *selfv1.UpgradeRequest
	activate *selfv1.ActivateRequest
	requests map[string]bool // of operations, by request ID
	image    int64           // bytes of the last image
	refuses  bool            // an image, after its first chunk

	operations []*operationsv1.Operation // the newest first
	events     []string                  // the subjects of all events
	follows    int                       // streams of Events that run
	changed    chan struct{}             // closed by the next change of this
	epoch      int                       // the number of restarts

	journal  []*machinev1.JournalRequest
	long     int // by how many bytes an entry of the journal is longer
	restarts int // how often Watch ends before the end of the operation
	asked    []uint64
}

func (d *daemon) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{Version: "1.2.3"}, nil
}

func (d *daemon) History(_ context.Context, r *selfv1.HistoryRequest) (*selfv1.HistoryResponse, error) {
	return &selfv1.HistoryResponse{Entries: make([]*selfv1.HistoryEntry, r.GetLimit())}, nil
}

func (d *daemon) Get(_ context.Context, r *operationsv1.GetRequest) (*operationsv1.GetResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range d.operations {
		if op.GetId() == r.GetId() {
			return &operationsv1.GetResponse{Operation: op}, nil
		}
	}
	if r.GetId() != "op" {
		return nil, status.Errorf(codes.NotFound, "find operation %s: there is none", r.GetId())
	}
	return &operationsv1.GetResponse{Operation: &operationsv1.Operation{Id: "op", LastSequence: 1 << 60}}, nil
}

func (d *daemon) Upgrade(stream grpc.BidiStreamingServer[selfv1.UpgradeRequest, selfv1.UpgradeResponse]) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.upgrade = r
	d.mu.Unlock()
	source := r.GetStart().GetSource()
	if known, err := d.repeats(stream.Context()); err != nil {
		return err
	} else if !known && source.GetUrl() == "" && source.GetImageHandle() != 7 {
		return status.Error(codes.InvalidArgument, "upgrade: there is no source")
	}
	if err := stream.SendHeader(metadata.Pairs("trident-operation-id", "op")); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (d *daemon) Activate(r *selfv1.ActivateRequest, stream grpc.ServerStreamingServer[selfv1.ActivateResponse]) error {
	d.mu.Lock()
	d.activate = r
	d.mu.Unlock()
	if err := stream.SendHeader(metadata.Pairs("trident-operation-id", "op")); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// repeats reports whether a call has the request ID of an earlier one.
func (d *daemon) repeats(ctx context.Context) (bool, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	id := strings.Join(md.Get(wire.HeaderRequest), ",")
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.requests[id]
	if !known && len(md.Get(wire.HeaderRepeated)) > 0 {
		return false, status.Error(codes.NotFound, "repeat the request: no operation has this request ID")
	}
	if id != "" {
		d.requests[id] = true
	}
	return known, nil
}

func (d *daemon) OpenImage(stream grpc.ClientStreamingServer[handlesv1.OpenImageRequest, handlesv1.OpenImageResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	var got int64
	for got < first.GetStart().GetSize() {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		got += int64(len(r.GetChunk()))
		if d.refuses {
			return status.Error(codes.ResourceExhausted, "open a handle: the disk is full")
		}
	}
	d.mu.Lock()
	d.image = got
	d.mu.Unlock()
	return stream.SendAndClose(&handlesv1.OpenImageResponse{ImageHandle: 7, Size: got})
}

func (d *daemon) Watch(r *operationsv1.WatchRequest, stream grpc.ServerStreamingServer[operationsv1.WatchResponse]) error {
	if r.GetId() != "op" {
		return status.Errorf(codes.NotFound, "watch operation %s: there is none", r.GetId())
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	d.mu.Lock()
	d.asked = append(d.asked, r.GetAfterSequence())
	d.restarts--
	ends := d.restarts >= 0
	d.mu.Unlock()
	next := r.GetAfterSequence() + 1
	if err := stream.Send(&operationsv1.WatchResponse{Event: &operationsv1.Event{OperationId: "op", Sequence: next}}); err != nil {
		return err
	}
	switch {
	case ends:
		return status.Error(codes.Unavailable, "tridentd restarts")
	case next >= 10:
		<-stream.Context().Done()
	}
	return nil
}

// fakeGate permits everything that names no right in denied.
type fakeGate struct {
	conn *grpc.ClientConn
	dial func() (*grpc.ClientConn, error)

	mu       sync.Mutex
	loggedIn bool
	logins   int
	actions  []Action
}

func (g *fakeGate) Upstream() (grpc.ClientConnInterface, error) { return g.conn, nil }
func (g *fakeGate) Settings() Settings {
	return Settings{Hosts: []string{"host1.example.org"}, Origins: []string{"https://panel.example.org"}, KeepAlive: time.Minute}
}

func (g *fakeGate) Identity() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.loggedIn {
		return "token:t"
	}
	return ""
}
func (g *fakeGate) Dial() (uploads.Conn, error) { return g.dial() }

func (g *fakeGate) Login(_ context.Context, values []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(values) == 0 {
		return nil
	}
	if g.loggedIn = values[0] == "Bearer t"; !g.loggedIn {
		return errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the token is not known here"), "make one")
	}
	return nil
}

func (g *fakeGate) Authenticate(_ context.Context, c Credentials) (Welcome, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.logins++; c.Passphrase != "correct horse" {
		return Welcome{}, errkind.Errorf(errkind.Denied, "log in: the name or the passphrase is wrong")
	}
	g.loggedIn = true
	return Welcome{Identity: "passphrase:admin", Rights: "read", Token: "t", Expires: time.Unix(1_800_000_000, 0).UTC()}, nil
}

func (g *fakeGate) Do(ctx context.Context, a Action, f func(context.Context) error) error {
	g.mu.Lock()
	g.actions = append(g.actions, a)
	loggedIn := g.loggedIn
	g.mu.Unlock()
	if !loggedIn {
		return status.Error(codes.Unauthenticated, "call "+a.Name+": the caller has not logged in")
	}
	return f(ctx)
}

func (g *fakeGate) Pass(context.Context, int) error { return nil }

// fixture is a server whose gate is that of all connections.
type fixture struct {
	t      testing.TB
	gate   *fakeGate
	daemon *daemon
	load   *load.History
	server *Server
	http   *httptest.Server
	stop   context.CancelFunc
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, gate: &fakeGate{}, daemon: &daemon{requests: map[string]bool{}, changed: make(chan struct{})}}
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.MaxSendMsgSize(1 << 30))
	selfv1.RegisterSelfServiceServer(g, f.daemon)
	operationsv1.RegisterOperationsServiceServer(g, f.daemon)
	tridentv1.RegisterVersionServiceServer(g, f.daemon)
	handlesv1.RegisterHandleServiceServer(g, f.daemon)
	machinev1.RegisterLogServiceServer(g, f.daemon)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	f.gate.dial = func() (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///d", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	var err error
	if f.gate.conn, err = f.gate.dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.gate.conn.Close() })
	s, err := New("", slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	f.load, f.server = s.load, s
	s.writeTime = 500 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.http = httptest.NewServer(s.Handler(f.gate, ctx))
	t.Cleanup(f.http.Close)
	t.Cleanup(cancel)
	return f
}

// request sends an HTTP request and returns the status and the body of the answer.
func (f *fixture) request(method, path, body string, headers ...string) (int, string, http.Header) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.http.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func (f *fixture) post(body string) string {
	f.t.Helper()
	code, text, _ := f.request("POST", PathRPC, body, "Authorization", "Bearer t")
	if code != http.StatusOK && (code != http.StatusNoContent || text != "") {
		f.t.Errorf("%.100s: HTTP status %d", body, code)
	}
	return text
}

// wsConn is a client of a WebSocket.
type wsConn struct {
	*websocket.Conn
	t testing.TB
}

func (f *fixture) dial(headers ...string) *wsConn {
	f.t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	c, resp, err := websocket.Dial(f.t.Context(), f.http.URL+PathRPC, &websocket.DialOptions{HTTPHeader: h})
	if resp != nil && resp.Body != nil { // of a refusal
		defer resp.Body.Close()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	c.SetReadLimit(8 << 20)
	f.t.Cleanup(func() { _ = c.CloseNow() })
	return &wsConn{c, f.t}
}

func (c *wsConn) send(text string) {
	c.t.Helper()
	if err := c.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *wsConn) read() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	_, data, err := c.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// call sends a message and returns the answer, "" for none: then the answer to a call after
// it is the next message.
func (c *wsConn) call(text string) string {
	c.t.Helper()
	c.send(text)
	const mark = `{"jsonrpc":"2.0","method":"mark","id":"mark"}`
	var got string
	for {
		// The answer to a slow call may come after that to the mark, so the mark is sent once
		// an answer is there or cannot come.
		if got == "" && expects(text) {
			got = c.read()
		}
		c.send(mark)
		if next := c.read(); strings.Contains(next, `"id":"mark"`) {
			return got
		} else {
			c.t.Errorf("%.100s has a second answer: %s", text, next)
		}
	}
}

// expects reports whether a message has an answer.
func expects(text string) bool {
	var one map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &one) == nil && one != nil {
		_, hasID := one["id"]
		return hasID || string(one["method"]) == "" || one["method"][0] != '"' || bytes.HasPrefix(one["params"], []byte(`"`))
	}
	var all []json.RawMessage
	if json.Unmarshal([]byte(text), &all) != nil || len(all) == 0 {
		return true
	}
	for _, m := range all {
		if expects(string(m)) {
			return true
		}
	}
	return false
}

// both runs a test over each transport.
func both(t *testing.T, test func(t *testing.T, f *fixture, call func(string) string)) {
	t.Run("HTTP", func(t *testing.T) { f := newFixture(t); test(t, f, f.post) })
	t.Run("WebSocket", func(t *testing.T) {
		f := newFixture(t)
		test(t, f, f.dial("Authorization", "Bearer t").call)
	})
}
