package operation_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

func TestARequestIsFoundByTheNextRunnerToo(t *testing.T) {
	journal := operationtest.NewMemory()
	begin := func() (*operation.Runner, operation.Starter[struct{}]) {
		r := operation.New(t.Context(), operation.Config{Journal: journal, Logger: slog.New(slog.DiscardHandler)})
		start := operation.Register(r, operation.Kind[struct{}]{Name: "work", Steps: []operation.Step[struct{}]{{Name: "one"}}})
		if err := r.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r, start
	}
	first, start := begin()
	op, err := start(operation.WithRequest(t.Context(), "a"), "work", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range first.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	next, start := begin()
	if _, err := start(t.Context(), "work that nobody named", struct{}{}); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := next.FindByRequest(t.Context(), "a"); err != nil || !ok || got.ID != op.ID || got.Phase != operation.Done {
		t.Errorf("found %v %v, %v", got, ok, err)
	}
	for _, name := range []string{"b", ""} {
		if got, ok, err := next.FindByRequest(t.Context(), name); ok || err != nil {
			t.Errorf("%q found %v, %v", name, got, err)
		}
	}
}

func TestARequestThatCameLaterIsFoundToo(t *testing.T) {
	journal := operationtest.NewMemory()
	r := operation.New(t.Context(), operation.Config{Journal: journal, Logger: slog.New(slog.DiscardHandler)})
	goOn := make(chan struct{})
	start := operation.Register(r, operation.Kind[struct{}]{Name: "work", Steps: []operation.Step[struct{}]{
		{Name: "one", Do: func(context.Context, *operation.Run[struct{}]) error { <-goOn; return nil }}, {Name: "two"},
	}})
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	op, err := start(operation.WithRequest(t.Context(), "own"), "work", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	attach := func(name string) {
		t.Helper()
		if err := r.Attach(operation.WithRequest(t.Context(), name), op.ID); err != nil {
			t.Fatal(err)
		}
	}
	attach("while it runs")
	close(goOn)
	for _, err := range r.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	attach("own")
	attach("when it has ended")
	attach("when it has ended")
	if err := r.Attach(t.Context(), op.ID); err != nil {
		t.Error(err)
	}
	if got, err := journal.Load(t.Context(), op.ID); err != nil || len(got.Attached) != 2 || got.Phase != operation.Done {
		t.Errorf("journaled %+v, %v", got, err)
	}
	next := operation.New(t.Context(), operation.Config{Journal: journal, Logger: slog.New(slog.DiscardHandler)})
	for _, name := range []string{"own", "while it runs", "when it has ended"} {
		if got, ok, err := next.FindByRequest(t.Context(), name); err != nil || !ok || got.ID != op.ID {
			t.Errorf("%q found %v %v, %v", name, got, ok, err)
		}
	}
	for i := range 20 {
		attach(strconv.Itoa(i))
	}
	if _, ok, err := r.FindByRequest(t.Context(), "19"); !ok || err != nil {
		t.Errorf("the newest is not found: %v", err)
	}
	if got, err := journal.Load(t.Context(), op.ID); err != nil || len(got.Attached) > 8 {
		t.Errorf("there is no bound: %d, %v", len(got.Attached), err)
	}
	if err := r.Attach(operation.WithRequest(t.Context(), "a"), "none"); err == nil {
		t.Error("an operation that is not there was attached to")
	}
}
