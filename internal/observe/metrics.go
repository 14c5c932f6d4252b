package observe

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// healthTimeout is how long a scrape waits for the state of the datastore.
const healthTimeout = time.Second

// metrics are the metrics of a daemon. Callers cannot add values of labels: those are the
// kinds and steps of operations, the methods of the API, and gRPC's codes.
type metrics struct {
	registry *prometheus.Registry

	connections, running prometheus.Gauge
	calls                *prometheus.CounterVec
	latency              *prometheus.HistogramVec

	events, ends, bytes *prometheus.CounterVec
	steps               *prometheus.HistogramVec
}

func newMetrics(c Config) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "trident", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "trident", Name: name, Help: help}
	}
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		connections: prometheus.NewGauge(gauge("connections", "Connections to the API that are open.")),
		running:     prometheus.NewGauge(gauge("rpcs_running", "Calls that are being answered, watches included.")),
		calls:       counter("rpcs_total", "Calls that have ended, by method and gRPC code.", "method", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "trident", Name: "rpc_duration_seconds", Help: "How long calls took, without streams.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}, []string{"method"}),
		events: counter("operation_events_total", "Events of operations, by type.", "type"),
		ends:   counter("operations_total", "Operations that have ended, by kind and how: done, undone, cancelled or stuck.", "kind", "end"),
		bytes:  counter("operation_bytes_total", "Bytes of the progress of steps: for a step fetch, the fetched bytes.", "kind", "step"),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "trident", Name: "operation_step_duration_seconds", Help: "How long steps took, doing or undoing, over restarts and reboots.",
			Buckets: []float64{.01, .1, 1, 5, 20, 60, 300, 1200},
		}, []string{"kind", "step", "phase"}),
	}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "trident", Name: "build_info", Help: "1; the labels are the version of this daemon, of Go, and the architecture.",
		ConstLabels: prometheus.Labels{"version": c.Version, "goversion": runtime.Version(), "arch": runtime.GOARCH},
	}, func() float64 { return 1 })
	active := prometheus.NewGaugeFunc(gauge("operation_active", "1 while an operation has not ended."), func() float64 {
		return boolNumber(c.Active != nil && c.Active())
	})
	halted := prometheus.NewGaugeFunc(gauge("operation_halted", "1 while an operation is halted because it cannot write, as on a full disk."), func() float64 {
		return boolNumber(c.Halted != nil && c.Halted())
	})
	m.registry.MustRegister(m.connections, m.running, m.calls, m.latency, m.events, m.ends, m.bytes, m.steps, info, active, halted,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.Datastore != nil {
		m.registry.MustRegister(datastore{c.Datastore})
	}
	return m
}

func boolNumber(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// count counts one event of an operation.
func (m *metrics) count(op operation.Operation, e operation.Event) {
	m.events.WithLabelValues(string(e.Type)).Inc()
	switch {
	case e.Type == operation.Metric && e.Name == operation.StepDuration:
		m.steps.WithLabelValues(op.Kind, e.Step, string(e.Phase)).Observe(e.Value)
	case e.Type == operation.Change && op.Phase.Settled():
		m.ends.WithLabelValues(op.Kind, outcome(op)).Inc()
	}
}

// outcome returns how an operation has ended, in one word.
func outcome(op operation.Operation) string {
	if op.Phase == operation.Undone && op.Failure != nil && op.Failure.Kind == errkind.Cancelled {
		return "cancelled"
	}
	return string(op.Phase)
}

// methodLabel returns the name of a method of the API, and "other" for any other name, so
// that callers cannot add values to a label.
func methodLabel(full string) string {
	name := strings.Replace(strings.TrimPrefix(full, "/"), "/", ".", 1)
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return "other"
	}
	if _, ok := d.(protoreflect.MethodDescriptor); !ok {
		return "other"
	}
	return name
}

// datastore collects the state of the datastore at each scrape.
type datastore struct {
	ask func(context.Context) (Datastore, error)
}

func (datastore) readable() *prometheus.Desc {
	return prometheus.NewDesc("trident_datastore_readable", "1 when the datastore can be read.", nil, nil)
}

func (datastore) size() *prometheus.Desc {
	return prometheus.NewDesc("trident_datastore_bytes", "Size of the datastore's file.", nil, nil)
}

func (datastore) damaged() *prometheus.Desc {
	return prometheus.NewDesc("trident_datastore_damaged_files", "Damaged datastores that Trident has moved aside.", nil, nil)
}

func (d datastore) Describe(out chan<- *prometheus.Desc) {
	out <- d.readable()
	out <- d.size()
	out <- d.damaged()
}

func (d datastore) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	is, err := d.ask(ctx)
	out <- prometheus.MustNewConstMetric(d.readable(), prometheus.GaugeValue, boolNumber(err == nil))
	out <- prometheus.MustNewConstMetric(d.size(), prometheus.GaugeValue, float64(is.Bytes))
	out <- prometheus.MustNewConstMetric(d.damaged(), prometheus.GaugeValue, float64(is.Damaged))
}
