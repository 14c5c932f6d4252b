package observe

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/wire"
)

// call has what is known of a call before its handler runs.
type call struct {
	request string
	// trace is the ID of the trace of the call, or "".
	trace string
	// parent is the traceparent of an operation that the call begins; see Origin.
	parent string

	method string // as a label: a method of the API, or "other"
	unary  bool   // known when it begins
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Origin returns the call to which a context belongs. The operation continues the trace of
// the caller, if there is one; else it has a trace of its own.
func Origin(ctx context.Context) operation.Origin {
	c := callOf(ctx)
	if c == nil {
		return operation.Origin{}
	}
	return operation.Origin{Traceparent: c.parent, RequestID: c.request}
}

// Calls returns the handler that counts and traces the calls of a gRPC server.
func (o *Observer) Calls() stats.Handler { return calls{o} }

type calls struct{ *Observer }

func (calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (h calls) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		h.metrics.connections.Inc()
	case *stats.ConnEnd:
		h.metrics.connections.Dec()
	}
}

func (h calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	theirs := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier(ctx)))
	if h.tracing != nil {
		ctx = h.tracing.rpc.TagRPC(ctx, info)
	}
	c := &call{request: requestID(ctx), method: methodLabel(info.FullMethodName)}
	here := trace.SpanContextFromContext(ctx)
	if !here.IsValid() {
		here = theirs
	}
	if here.IsValid() {
		c.trace = here.TraceID().String()
	}
	if theirs.IsValid() {
		c.parent = traceparent(here)
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("trident.request.id", c.request))
	return context.WithValue(ctx, callKey{}, c)
}

func (h calls) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if h.tracing != nil {
		h.tracing.rpc.HandleRPC(ctx, s)
	}
	c := callOf(ctx)
	if c == nil {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		c.unary = !s.IsClientStream && !s.IsServerStream
		h.metrics.running.Inc()
	case *stats.End:
		h.metrics.running.Dec()
		h.metrics.calls.WithLabelValues(c.method, status.Code(s.Error).String()).Inc()
		if c.unary {
			h.metrics.latency.WithLabelValues(c.method).Observe(s.EndTime.Sub(s.BeginTime).Seconds())
		}
	}
}

// carrier returns the trace headers of a call for a propagator.
func carrier(ctx context.Context) propagation.TextMapCarrier {
	out := propagation.MapCarrier{}
	for _, key := range []string{"traceparent", "tracestate"} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) == 1 {
			out[key] = v[0]
		}
	}
	return out
}

// requestID returns the caller's ID for the call, or a new one if that is not valid.
func requestID(ctx context.Context) string {
	v := metadata.ValueFromIncomingContext(ctx, wire.HeaderRequest)
	if len(v) == 1 && v[0] != "" && len(v[0]) <= wire.MaxRequest && strings.ToValidUTF8(v[0], "") == v[0] {
		return v[0]
	}
	return strings.ToLower(rand.Text()[:16])
}

// traceparent returns the header traceparent for a span (W3C Trace Context, 3.2.2).
func traceparent(c trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", c.TraceID(), c.SpanID(), c.TraceFlags())
}
