// Package observe lets others see what the daemon does: numbers for Prometheus,
// traces for OpenTelemetry, and a log whose lines can be put together.
//
// It only looks on. Calls reach it as a stats handler of gRPC, operations as what
// was journaled of them; it never waits and never fails anybody. What it says of
// an operation follows from the journal alone, the IDs of traces and spans too,
// so that the parts that two daemons tell, before and after a restart, are one
// trace. What nobody has asked for is not started: without an endpoint for traces
// there is no exporter, and a number costs an addition until it is read.
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

// flushTimeout bounds how long Close waits for spans to be taken: a collector that
// does not answer must not hold up a restart.
const flushTimeout = 2 * time.Second

// Config is what an observer looks at.
type Config struct {
	Version string
	Logger  *slog.Logger
	// Active reports whether an operation has not settled.
	Active func() bool
	// Halted reports whether the operation that has not settled is halted.
	Halted func() bool
	// Datastore asks how the datastore is; an error means that it cannot be read.
	Datastore func(context.Context) (Datastore, error)
}

// A Datastore is how the datastore is.
type Datastore struct {
	Bytes   int64
	Damaged int // files that were found damaged and put aside
}

// An Observer sees calls and operations.
type Observer struct {
	logger  *slog.Logger
	metrics *metrics
	tracing *tracing // nil: nobody wants traces
	scrapes *http.Server

	mu   sync.Mutex
	last transfer
}

// transfer is how far the bytes of a step were.
type transfer struct {
	operation, step string
	phase           operation.Phase
	done            int64
}

// New returns an observer. Where traces should be exported and cannot be, it says
// so in the log and does without.
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

// Operation takes what was journaled of an operation. It does not wait.
func (o *Observer) Operation(op operation.Operation, events ...operation.Event) {
	for _, e := range events {
		o.metrics.count(op, e)
		o.countBytes(op, e)
		if o.tracing != nil {
			o.tracing.endSpans(op, e)
		}
	}
}

// countBytes counts what a step has moved. Of a step that an earlier daemon began it
// counts what comes after the first that it hears of.
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
		if more < 0 { // the next file
			more = e.Done
		}
		o.metrics.bytes.WithLabelValues(op.Kind, e.Step).Add(float64(max(0, more)))
		o.last.done = e.Done
	}
}

// Close ends scrapes and gives spans that wait a moment to be taken.
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
