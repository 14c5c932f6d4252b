package observe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// tracing makes spans of calls, operations and steps, and exports them.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	rpc      stats.Handler
}

// newTracing returns nil if the environment has no endpoint for traces. The variables are
// OpenTelemetry's: OTEL_EXPORTER_OTLP_ENDPOINT and its family.
func newTracing(ctx context.Context, version string, logger *slog.Logger) (*tracing, error) {
	if !wantsTraces() {
		return nil, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if p := os.Getenv(name); p != "" && p != "http/protobuf" {
			return nil, errkind.Errorf(errkind.Unsupported, "read %s: the protocol %q is not supported, http/protobuf is", name, p)
		}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "tridentd"), attribute.String("service.version", version), attribute.String("host.name", host),
	), resource.WithFromEnv())
	if err != nil {
		logger.Warn("read the attributes of traces", "error", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(loggedExporter{exporter, logger}), sdktrace.WithResource(about), sdktrace.WithIDGenerator(ids{}),
	)
	return &tracing{
		provider: provider, tracer: provider.Tracer("trident"),
		rpc: otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(provider), otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
			otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithFilter(hasSpan),
		),
	}, nil
}

func wantsTraces() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// hasSpan reports whether a call gets a span. Calls that programs repeat, such as health
// checks, get none.
func hasSpan(info *stats.RPCTagInfo) bool {
	return !strings.HasPrefix(info.FullMethodName, "/grpc.") && info.FullMethodName != "/trident.v1.VersionService/Version"
}

// loggedExporter logs the errors of an exporter.
type loggedExporter struct {
	sdktrace.SpanExporter
	logger *slog.Logger
}

func (e loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.logger.Warn("spans were not exported", "spans", len(spans), "error", err)
	}
	return nil
}

// endSpans ends the span of a step or of the operation if e is the end of it.
func (t *tracing) endSpans(op operation.Operation, e operation.Event) {
	switch {
	case e.Type == operation.Metric && e.Name == operation.StepDuration:
		t.endStep(op, e)
	case e.Type == operation.Change && op.Phase.Settled():
		_, span := t.operationSpan(op)
		span.SetAttributes(attribute.String("trident.operation.end", outcome(op)))
		if op.Failure != nil {
			span.SetStatus(codes.Error, op.Failure.Message)
		}
		span.End(trace.WithTimestamp(e.Time))
	}
}

func (t *tracing) endStep(op operation.Operation, e operation.Event) {
	ctx, _ := t.operationSpan(op)
	ctx = withIDs(ctx, op.TraceID(), op.ID, e.Sequence)
	name := e.Step
	if e.Phase == operation.Undoing {
		name = "undo " + name
	}
	began := e.Time.Add(-time.Duration(e.Value * float64(time.Second)))
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(
		attribute.String("trident.operation.id", op.ID), attribute.String("trident.operation.phase", string(e.Phase)),
	))
	failed := op.Phase == operation.Stuck || (e.Phase == operation.Doing && op.Phase != operation.Doing && op.Phase != operation.Done)
	if failed && op.Failure != nil {
		span.SetStatus(codes.Error, op.Failure.Message)
	}
	span.End(trace.WithTimestamp(e.Time))
}

// operationSpan starts the span of an operation, with the same IDs each time. The caller
// ends it once; a span that is only the parent of others is not ended, so not exported.
func (t *tracing) operationSpan(op operation.Operation) (context.Context, trace.Span) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": op.Traceparent})
	return t.tracer.Start(withIDs(ctx, op.TraceID(), op.ID, 0), op.Kind, trace.WithTimestamp(op.Created), trace.WithAttributes(
		attribute.String("trident.operation.id", op.ID), attribute.String("trident.request.id", op.RequestID),
		attribute.String("trident.operation.summary", op.Summary),
	))
}

// ids generates the IDs that withIDs has put into a context, or else random ones.
type ids struct{}

type idsKey struct{}

type wantedIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

// withIDs returns ctx with the IDs for a span of an operation. sequence is that of the
// event that ended the step, or 0 for the operation itself.
func withIDs(ctx context.Context, traceID, operation string, sequence uint64) context.Context {
	w := wantedIDs{}
	if id, err := trace.TraceIDFromHex(traceID); err == nil {
		w.trace = id
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("trident span "+operation), sequence))
	copy(w.span[:], sum[:])
	return context.WithValue(ctx, idsKey{}, w)
}

func (i ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if w, ok := ctx.Value(idsKey{}).(wantedIDs); ok && w.trace.IsValid() {
		return w.trace, w.span
	}
	var id trace.TraceID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // never all zeros
	return id, i.NewSpanID(ctx, id)
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if w, ok := ctx.Value(idsKey{}).(wantedIDs); ok {
		return w.span
	}
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}
