package operation_test

import (
	"log/slog"
	"testing"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

func TestARequestIsFoundByTheNextRunnerToo(t *testing.T) {
	journal := operationtest.NewMemory()
	begin := func() (*operation.Runner, operation.Starter[struct{}]) {
		r, err := operation.New(t.Context(), operation.Config{Journal: journal, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return r, operation.Register(r, operation.Kind[struct{}]{Name: "work", Steps: []operation.Step[struct{}]{{Name: "one"}}})
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
	if got, ok, err := next.Requested(t.Context(), "a"); err != nil || !ok || got.ID != op.ID || got.Phase != operation.Done {
		t.Errorf("found %v %v, %v", got, ok, err)
	}
	for _, name := range []string{"b", ""} {
		if got, ok, err := next.Requested(t.Context(), name); ok || err != nil {
			t.Errorf("%q found %v, %v", name, got, err)
		}
	}
}
