package operation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/operation"
)

// metrics are the metrics of an operation that has ended, as "phase step name".
func (b *bench) metrics(r *operation.Runner, id string) (names []string, values []float64) {
	b.t.Helper()
	for e, err := range r.Watch(b.t.Context(), id, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Type == operation.Metric {
			names = append(names, strings.Join([]string{string(e.Phase), e.Step, e.Name, e.Unit}, " "))
			values = append(values, e.Value)
		}
	}
	return names, values
}

func TestEachStepThatActsEndsWithItsDuration(t *testing.T) {
	b := newBench(t)
	only := step{Name: "back", Undo: b.step("back").Undo}
	r, start := b.begin(b.step("a"), only, step{Name: "reads", Do: b.step("reads").Do}, b.failing("c"), b.step("d"))
	op := b.finish(r, b.start(start).ID)
	got, _ := b.metrics(r, op.ID)
	want := []string{
		"doing a step.duration s", "doing reads step.duration s", "doing c step.duration s",
		"undoing c step.duration s", "undoing back step.duration s", "undoing a step.duration s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestADurationCountsOverARestart(t *testing.T) {
	b := newBench(t)
	s := b.step("b")
	s.Do = func(context.Context, *run) error { return operation.ErrRestart }
	r, start := b.begin(b.step("a"), s, b.step("c"))
	op := b.start(start)
	b.waiting(r, op.ID)
	b.stop(r)
	stored, err := b.journal.Load(t.Context(), op.ID)
	if err != nil {
		t.Fatal(err)
	}
	stored.StepBegan = stored.StepBegan.Add(-time.Hour)
	if err := b.journal.Save(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	r, _ = b.begin(b.step("a"), s, b.step("c"))
	b.finish(r, op.ID)
	names, values := b.metrics(r, op.ID)
	if len(names) != 3 || names[1] != "doing b step.duration s" || values[1] < 3600 || values[1] > 3700 || values[2] > 60 {
		t.Errorf("%v %v", names, values)
	}
}

func TestAStepThatAnOlderVersionBeganHasNoDuration(t *testing.T) {
	b := newBench(t)
	op := operation.Operation{ID: "1", Kind: "test", Phase: operation.Doing, Plan: []string{"a", "b"}, Step: "a", State: json.RawMessage(`{}`)}
	if err := b.journal.Save(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	r, _ := b.begin(b.step("a"), b.step("b"))
	b.finish(r, "1")
	got, _ := b.metrics(r, "1")
	if diff := cmp.Diff([]string{"doing b step.duration s"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLogsCarryAttributesAndMetricsTheirUnit(t *testing.T) {
	b := newBench(t)
	s := b.step("a")
	s.Do = func(_ context.Context, r *run) error {
		many := []any{"file", "x.raw", slog.Int("count", 2), "long", strings.Repeat("ä", 2000)}
		for n := range 100 {
			many = append(many, slog.Int(strings.Repeat("k", n+1), n))
		}
		r.Log(slog.LevelWarn, "look", many...)
		r.Metric("images", 2, "1")
		return nil
	}
	r, start := b.begin(s)
	var got []operation.Event
	for e, err := range r.Watch(t.Context(), b.start(start).ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == operation.Log || e.Type == operation.Metric && e.Name != operation.StepDuration {
			got = append(got, e)
		}
	}
	if len(got) != 2 || got[1].Name != "images" || got[1].Value != 2 || got[1].Unit != "1" {
		t.Fatalf("%+v", got)
	}
	a := got[0].Attributes
	if a["file"] != "x.raw" || a["count"] != "2" || len(a) != 32 || len(a["long"]) > 1100 {
		t.Errorf("%d attributes, long has %d bytes: %v", len(a), len(a["long"]), a["file"])
	}
}

func TestTheTraceIsTheCallersOrFollowsFromTheID(t *testing.T) {
	t.Parallel()
	op := operation.Operation{ID: "20260101-000000-ABCDEF"}
	own := op.TraceID()
	if len(own) != 32 || own != (operation.Operation{ID: op.ID}).TraceID() || own == (operation.Operation{ID: "x"}).TraceID() {
		t.Errorf("trace %q", own)
	}
	op.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if got := op.TraceID(); got != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("trace %q", got)
	}
	op.Traceparent = "rubbish"
	if op.TraceID() != own {
		t.Errorf("rubbish is a trace: %q", op.TraceID())
	}
}

func TestAnObserverGetsJournaledEventsWithTheirOrigin(t *testing.T) {
	b := newBench(t)
	type seen struct {
		step  string
		types []operation.EventType
	}
	var got []seen
	var last operation.Operation
	r := operation.New(t.Context(), operation.Config{
		Journal: b.journal, Logger: slog.New(slog.DiscardHandler),
		Origin: func(context.Context) operation.Origin { return operation.Origin{Traceparent: "tp", RequestID: "r-1"} },
		Observe: func(op operation.Operation, events ...operation.Event) {
			s := seen{step: op.Step}
			for _, e := range events {
				s.types = append(s.types, e.Type)
			}
			got, last = append(got, s), op
		},
	})
	bad := b.step("b")
	bad.Do = func(context.Context, *run) error { return errors.New("no") }
	start := operation.Register(r, operation.Kind[record]{Name: "test", Steps: []step{b.step("a"), bad}})
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	op := b.finish(r, b.start(start).ID)
	b.stop(r)
	both := []operation.EventType{operation.Metric, operation.Change}
	want := []seen{{"a", []operation.EventType{operation.Change}}, {"b", both}, {"b", both}, {"a", both}, {"a", both}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if last.Traceparent != "tp" || last.RequestID != "r-1" || op.RequestID != "r-1" {
		t.Errorf("%+v", last)
	}
}

func TestTheLogOfTheDaemonHasAFailureOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var log bytes.Buffer
	r := operation.New(t.Context(), operation.Config{
		Journal: b.journal, Life: operation.Life{Boot: "1", Process: "1"}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	fails := true
	steps := []step{b.step("a"), b.step("b"), b.step("c"), b.step("d")}
	steps[0].Undo = func(context.Context, *run) error {
		if fails {
			return errors.New("it is wedged")
		}
		return nil
	}
	steps[3].Do = func(context.Context, *run) error { return errors.New("the disk is made of cheese") }
	start := operation.Register(r, operation.Kind[record]{Name: "test", Steps: steps})
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	op := b.finish(r, b.start(start).ID)
	if op.Phase != operation.Stuck {
		t.Fatalf("phase %s", op.Phase)
	}
	fails = false
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	b.finish(r, op.ID)
	b.stop(r)
	for _, reason := range []string{"the disk is made of cheese", "it is wedged"} {
		if n := strings.Count(log.String(), reason); n != 1 {
			t.Errorf("the log has %q %d times:\n%s", reason, n, log.String())
		}
	}
	for line := range strings.Lines(log.String()) {
		if failed := strings.Contains(line, "error="); failed != strings.Contains(line, "level=ERROR") {
			t.Errorf("the level is not that of the line: %s", line)
		}
	}
}
