package observe

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/trident-project/trident/internal/operation"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

type step = operation.Step[struct{}]

func nothing(context.Context, *operation.Run[struct{}]) error { return nil }

func restarting() []step {
	return []step{
		{Name: "fetch", Do: func(_ context.Context, r *operation.Run[struct{}]) error {
			r.Progress(700, 1000)
			r.Progress(1000, 1000)
			r.Logf(slog.LevelInfo, "another file") // shows what was held back
			r.Progress(500, 500)
			return nil
		}},
		{Name: "restart", Do: func(context.Context, *operation.Run[struct{}]) error { return operation.ErrRestart }},
		{Name: "settle", Do: nothing},
	}
}

func waits(op operation.Operation) bool { return op.Waiting != "" }
func ended(op operation.Operation) bool { return op.Phase.Settled() }

// commit has the daemon begin an operation, with headers, and waits for the answer.
func (d *daemon) commit(t *testing.T, headers ...string) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
	stream, err := tridentv1.NewCommitServiceClient(d.conn).Commit(ctx, &tridentv1.CommitRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestTheSpansOfTwoDaemonsAreOneTraceOfTheCallers(t *testing.T) {
	c := newCollector(t)
	h := newHost(t)
	d := h.daemon(restarting()...)
	d.commit(t, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", wire.HeaderRequest, "r-1")
	h.only(d, waits)
	d.stop()
	d = h.daemon(restarting()...)
	op := h.only(d, ended)
	d.stop()

	if op.TraceID() != "4bf92f3577b34da6a3ce929d0e0e4736" || op.RequestID != "r-1" {
		t.Errorf("%+v", op)
	}
	call := one(t, c, "trident.v1.CommitService/Commit")
	whole := one(t, c, "work")
	if hex.EncodeToString(call.GetParentSpanId()) != "00f067aa0ba902b7" || string(whole.GetParentSpanId()) != string(call.GetSpanId()) {
		t.Errorf("the operation is not the call's: %v, %v", call, whole)
	}
	for _, name := range []string{"trident.v1.CommitService/Commit", "work", "fetch", "restart", "settle"} {
		s := one(t, c, name)
		if hex.EncodeToString(s.GetTraceId()) != op.TraceID() {
			t.Errorf("%s is in trace %x", name, s.GetTraceId())
		}
		if name == "fetch" || name == "restart" || name == "settle" {
			if string(s.GetParentSpanId()) != string(whole.GetSpanId()) {
				t.Errorf("%s is not the operation's", name)
			}
			if s.GetStartTimeUnixNano() < whole.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > whole.GetEndTimeUnixNano() {
				t.Errorf("%s is not within the operation", name)
			}
		}
	}
	if len(c.names) == 0 || c.names[0] != "tridentd" {
		t.Errorf("services %v", c.names)
	}
}

func one(t *testing.T, c *collector, name string) *tracepb.Span {
	t.Helper()
	spans := c.named(name)
	if len(spans) != 1 {
		t.Fatalf("%d spans %q of %v", len(spans), name, c.spans)
	}
	return spans[0]
}

func TestWithoutACallersTraceTheOperationHasItsOwnAndItsFailuresShow(t *testing.T) {
	c := newCollector(t)
	h := newHost(t)
	d := h.daemon(step{Name: "a", Do: nothing, Undo: nothing}, step{Name: "b", Do: func(context.Context, *operation.Run[struct{}]) error {
		return errors.New("no luck")
	}})
	d.commit(t)
	op := h.only(d, ended)
	d.stop()
	for name, failed := range map[string]bool{"work": true, "a": false, "b": true, "undo a": false} {
		s := one(t, c, name)
		if hex.EncodeToString(s.GetTraceId()) != op.TraceID() {
			t.Errorf("%s is in trace %x, not %s", name, s.GetTraceId(), op.TraceID())
		}
		if got := s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR; got != failed {
			t.Errorf("%s: %v", name, s.GetStatus())
		}
	}
	if op.RequestID == "" || op.Traceparent != "" {
		t.Errorf("%+v", op)
	}
}

func TestWithoutAnEndpointForTracesNothingIsStarted(t *testing.T) {
	for _, c := range []struct{ name, key, value, log string }{
		{"no endpoint", "", "", ""},
		{"switched off", "OTEL_SDK_DISABLED", "true", ""},
		{"none", "OTEL_TRACES_EXPORTER", "none", ""},
		{"another protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", `"grpc\" is not supported, http/protobuf is`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.key != "" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
				t.Setenv(c.key, c.value)
			}
			log := &text{}
			o := New(t.Context(), Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
			defer o.Close()
			if o.tracing != nil || (c.log == "") != (log.String() == "") || !strings.Contains(log.String(), c.log) {
				t.Errorf("tracing %v, log %s", o.tracing, log.String())
			}
		})
	}
}

func TestACollectorThatIsGoneIsLoggedAndHoldsUpNobody(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	h := newHost(t)
	d := h.daemon(step{Name: "a", Do: nothing})
	d.commit(t)
	h.only(d, ended)
	begun := time.Now()
	d.stop()
	if took := time.Since(begun); took > flushTimeout+2*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if !strings.Contains(h.log.String(), "spans were not exported") {
		t.Errorf("log: %s", h.log.String())
	}
}

// scrape reads the metrics over a socket.
func scrape(t *testing.T, o *Observer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- o.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://trident/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s %v %v", resp.Status, resp.Header, err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	return string(body)
}

func TestMetricsTellOfCallsAndOperations(t *testing.T) {
	h := newHost(t)
	d := h.daemon(restarting()...)
	d.commit(t)
	h.only(d, waits)
	if _, err := tridentv1.NewVersionServiceClient(d.conn).Version(t.Context(), &tridentv1.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"/made.up/One", "/made.up/Two", "/trident.v1.VersionService/No"} {
		_ = d.conn.Invoke(t.Context(), method, &tridentv1.VersionRequest{}, &tridentv1.VersionResponse{}) // there is none
	}
	d.halt()
	first := scrape(t, d.observer)
	d = h.daemon(restarting()...)
	h.only(d, ended)
	d.halt()
	second := scrape(t, d.observer)
	for body, lines := range map[string][]string{
		first: {
			`trident_build_info{arch="` + runtime.GOARCH + `",goversion="` + runtime.Version() + `",version="1.2.3"} 1`,
			`trident_connections 0`, `trident_rpcs_running 0`, `trident_operation_active 1`,
			`trident_rpcs_total{code="OK",method="trident.v1.CommitService.Commit"} 1`,
			`trident_rpcs_total{code="OK",method="trident.v1.VersionService.Version"} 1`,
			`trident_rpc_duration_seconds_count{method="trident.v1.VersionService.Version"} 1`,
			`trident_operation_step_duration_seconds_count{kind="work",phase="doing",step="fetch"} 1`,
			`trident_operation_bytes_total{kind="work",step="fetch"} 1500`,
			`trident_operation_events_total{type="metric"} 1`,
			`trident_datastore_readable 1`, `trident_datastore_bytes 4096`, `trident_datastore_damaged_files 1`,
		},
		second: {
			`trident_operation_active 0`, `trident_operations_total{end="done",kind="work"} 1`,
			`trident_operation_step_duration_seconds_count{kind="work",phase="doing",step="restart"} 1`,
		},
	} {
		for _, line := range lines {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + `$`).MatchString(body) {
				t.Errorf("no %s in\n%s", line, ours(body))
			}
		}
	}
	if strings.Contains(first, "made.up") {
		t.Error("a method that somebody made up is a label")
	}
}

// ours are the lines that are not the runtime's.
func ours(body string) string {
	var out []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "trident_") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestAnObserverLeavesNothingRunning(t *testing.T) {
	newCollector(t)
	before := runtime.NumGoroutine()
	h := newHost(t)
	d := h.daemon(restarting()...)
	d.commit(t)
	h.only(d, waits)
	scrape(t, d.observer)
	d.stop()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before+2 { // what the collector serves ends by itself
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func TestAMethodIsALabelOnlyWhenItIsOurs(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"/trident.v1.VersionService/Version": "trident.v1.VersionService.Version", "/trident.v1.VersionService/No": "other",
		"/made.up/One": "other", "": "other", "/trident.v1/VersionRequest": "other", "\xff/\n": "other",
	} {
		if got := methodLabel(method); got != want {
			t.Errorf("%q: %q", method, got)
		}
	}
}

func TestAValidRequestNameIsKept(t *testing.T) {
	t.Parallel()
	for name, given := range map[string][]string{
		"none": nil, "two": {wire.HeaderRequest, "a", wire.HeaderRequest, "b"}, "long": {wire.HeaderRequest, strings.Repeat("x", wire.MaxRequest+1)},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(given...))
		if got := requestID(ctx); len(got) != 16 || got == requestID(ctx) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := requestID(metadata.NewIncomingContext(t.Context(), metadata.Pairs(wire.HeaderRequest, "mine"))); got != "mine" {
		t.Errorf("%q", got)
	}
}

func TestLinesOfACallSayWhichItIs(t *testing.T) {
	h := newHost(t)
	d := h.daemon(step{Name: "a", Do: nothing})
	d.commit(t, wire.HeaderRequest, "r-7", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	op := h.only(d, ended)
	d.stop()
	for _, want := range []string{
		"msg=begun request=r-7 trace=4bf92f3577b34da6a3ce929d0e0e4736",
		"msg=operation operation=" + op.ID + " trace=4bf92f3577b34da6a3ce929d0e0e4736 request=r-7 phase=done",
	} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("no %q in\n%s", want, h.log.String())
		}
	}
}
