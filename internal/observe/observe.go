// Package observe shows what the daemon does: metrics for Prometheus, traces for
// OpenTelemetry, and a log whose lines have the IDs of operations and requests.
//
// It receives calls as a stats handler of gRPC, and operations as their journaled events;
// it never delays them and never makes them fail. It derives the metrics and spans of an
// operation from the journal alone, and the IDs of traces and spans too, so that the spans
// of two daemons, before and after a restart, are one trace. Without an endpoint for traces
// it starts no exporter.
package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/operation"
)

// flushTimeout is how long Close waits for the export of spans: a collector that does not
// answer must not delay a restart.
const flushTimeout = 2 * time.Second

// Config configures an observer.
type Config struct {
	Version string
	Logger  *slog.Logger
	// Active reports whether an operation has not settled.
	Active func() bool
	// Halted reports whether the operation that has not settled is halted.
	Halted func() bool
	// Datastore returns the state of the datastore, or an error if it cannot be read.
	Datastore func(context.Context) (Datastore, error)
}

// A Datastore is the state of the datastore.
type Datastore struct {
	Bytes   int64
	Damaged int // damaged files that were moved aside
}

// An Observer counts and traces calls and operations.
type Observer struct {
	logger  *slog.Logger
	metrics *metrics
	tracing *tracing // nil: no traces are exported
	scrapes *http.Server

	mu   sync.Mutex
	last transfer
}

// transfer is the last known progress of a step, in bytes.
type transfer struct {
	operation, step string
	phase           operation.Phase
	done            int64
}

// New returns an observer. If the environment asks for traces and they cannot be exported,
// New logs the error and the observer has no traces.
func New(ctx context.Context, c Config) *Observer {
	o := &Observer{logger: c.Logger, metrics: newMetrics(c)}
	o.scrapes = o.metrics.server()
	t, err := newTracing(ctx, c.Version, c.Logger)
	if err != nil {
		c.Logger.Warn("traces are not exported", "error", err)
	}
	o.tracing = t
	return o
}

// Operation receives journaled events of an operation. It does not block.
func (o *Observer) Operation(op operation.Operation, events ...operation.Event) {
	for _, e := range events {
		o.metrics.count(op, e)
		o.countBytes(op, e)
		if o.tracing != nil {
			o.tracing.endSpans(op, e)
		}
	}
}

// countBytes adds the progress of a step to its bytes. For a step that an earlier daemon
// began it counts from the first progress that this daemon sees.
func (o *Observer) countBytes(op operation.Operation, e operation.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	here := transfer{op.ID, e.Step, e.Phase, o.last.done}
	switch {
	case e.Type == operation.Change:
		o.last = transfer{op.ID, e.Step, e.Phase, 0}
	case e.Type != operation.Progress:
	case here != o.last:
		o.last = transfer{op.ID, e.Step, e.Phase, e.Done}
	default:
		more := e.Done - o.last.done
		if more < 0 { // the step began the next file
			more = e.Done
		}
		o.metrics.bytes.WithLabelValues(op.Kind, e.Step).Add(float64(max(0, more)))
		o.last.done = e.Done
	}
}

// Close ends scrapes and exports the remaining spans, for flushTimeout at most.
func (o *Observer) Close() error {
	err := o.scrapes.Close()
	if o.tracing != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if terr := o.tracing.provider.Shutdown(ctx); terr != nil && !errors.Is(terr, context.DeadlineExceeded) {
			err = errors.Join(err, terr)
		}
	}
	if err != nil {
		return fmt.Errorf("stop observing: %w", err)
	}
	return nil
}
