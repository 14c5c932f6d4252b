package observe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// collector is somebody on the loopback interface who takes traces over OTLP.
type collector struct {
	mu    sync.Mutex
	spans []*tracepb.Span
	names []string // service.name of each request
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c}
	server.SetKeepAlivesEnabled(false)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collectorpb.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				c.names = append(c.names, a.GetValue().GetStringValue())
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// named returns the spans of a name.
func (c *collector) named(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracepb.Span
	for _, s := range c.spans {
		if s.GetName() == name {
			out = append(out, s)
		}
	}
	return out
}

// host is a journal and the daemons that work on it, one after the other.
type host struct {
	t       *testing.T
	journal *operationtest.Memory
	process int
	log     *text
}

func newHost(t *testing.T) *host {
	return &host{t: t, journal: operationtest.NewMemory(), log: &text{}}
}

// daemon is one process: an observer, a runner of two steps of which the first
// restarts, and a server that begins an operation when it is asked for Version.
type daemon struct {
	observer *Observer
	runner   *operation.Runner
	start    operation.Starter[struct{}]
	conn     *grpc.ClientConn
	halt     func() // all but the observer
	stop     func()
}

type versions struct {
	tridentv1.UnimplementedVersionServiceServer
	answer func(context.Context) error
}

func (v versions) Version(ctx context.Context, _ *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{}, v.answer(ctx)
}

type commits struct {
	tridentv1.UnimplementedCommitServiceServer
	begin func(context.Context) error
}

func (c commits) Commit(_ *tridentv1.CommitRequest, stream grpc.ServerStreamingServer[tridentv1.ServicingResponse]) error {
	return c.begin(stream.Context())
}

func (h *host) daemon(steps ...operation.Step[struct{}]) *daemon {
	h.t.Helper()
	h.process++
	logger := slog.New(callHandler{slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})})
	d := &daemon{}
	d.observer = New(h.t.Context(), Config{
		Version: "1.2.3", Logger: logger,
		Active:    func() bool { _, active := d.runner.Active(); return active },
		Datastore: func(context.Context) (Datastore, error) { return Datastore{Bytes: 4096, Damaged: 1}, nil },
	})
	var err error
	d.runner = operation.New(h.t.Context(), operation.Config{
		Journal: h.journal, Logger: logger, Life: operation.Life{Boot: "b", Process: string(rune('0' + h.process))},
		Origin: Origin, Observe: d.observer.Operation,
	})
	d.start = operation.Register(d.runner, operation.Kind[struct{}]{Name: "work", Steps: steps})
	if err := d.runner.Resume(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	// What is observed of a call ends with its handler, which may be after its answer.
	server := grpc.NewServer(grpc.StatsHandler(d.observer.Calls()), grpc.WaitForHandlers(true))
	begin := func(ctx context.Context) error {
		_, err := d.start(context.WithoutCancel(ctx), "do some work", struct{}{})
		logger.InfoContext(ctx, "begun")
		return err
	}
	tridentv1.RegisterVersionServiceServer(server, versions{answer: func(context.Context) error { return nil }})
	tridentv1.RegisterCommitServiceServer(server, commits{begin: begin})
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(h.t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		h.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	d.conn, err = grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	d.halt = sync.OnceFunc(func() {
		_ = d.conn.Close()
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it served
			h.t.Error(err)
		}
		if err := d.runner.Shutdown(context.Background()); err != nil {
			h.t.Error(err)
		}
	})
	d.stop = sync.OnceFunc(func() {
		d.halt()
		if err := d.observer.Close(); err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(d.stop)
	return d
}

// only is the one operation of the host, once it stands as asked for.
func (h *host) only(d *daemon, stands func(operation.Operation) bool) operation.Operation {
	h.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		changed := d.runner.Changed()
		ops, err := d.runner.List(h.t.Context(), 2, false)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(ops) == 1 && stands(ops[0]) {
			return ops[0]
		}
		select {
		case <-changed:
		case <-deadline:
			h.t.Fatalf("operations: %+v", ops)
		}
	}
}
