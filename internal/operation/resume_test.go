package operation_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

// Callers may be served before Resume has run: what they begin or cancel must not
// meet a runner that does not yet know what it carries on with.
func TestBeginAndCancelWaitForResume(t *testing.T) {
	journal := operationtest.NewMemory()
	wait := operation.Step[struct{}]{Name: "wait", Do: func(ctx context.Context, _ *operation.Run[struct{}]) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	begin := func() (*operation.Runner, operation.Starter[struct{}]) {
		r := operation.New(t.Context(), operation.Config{Journal: journal, Logger: slog.New(slog.DiscardHandler)})
		return r, operation.Register(r, operation.Kind[struct{}]{Name: "work", Steps: []operation.Step[struct{}]{wait, {Name: "two"}}})
	}
	resume := func(r *operation.Runner) {
		if err := r.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first, start := begin()
	resume(first)
	op, err := start(t.Context(), "work", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	next, start := begin()
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the caller has gone"))
	if _, err := start(gone, "more work", struct{}{}); err == nil || err.Error() != "the caller has gone" {
		t.Errorf("begun before Resume: %v", err)
	}
	if _, err := next.Cancel(gone, op.ID); err == nil || err.Error() != "the caller has gone" {
		t.Errorf("cancelled before Resume: %v", err)
	}
	busy := make(chan error)
	go func() {
		_, err := start(t.Context(), "more work", struct{}{})
		busy <- err
	}()
	resume(next)
	if err := <-busy; errkind.Of(err) != errkind.Busy {
		t.Errorf("begun beside what is carried on with: %v", err)
	}
	if _, err := next.Cancel(t.Context(), op.ID); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

// What needs the journal must not go on because the runner stops instead.
func TestARunnerThatStopsBeforeItHasResumedSaysSo(t *testing.T) {
	r := operation.New(t.Context(), operation.Config{Journal: failing{operationtest.NewMemory()}, Logger: slog.New(slog.DiscardHandler)})
	start := operation.Register(r, operation.Kind[struct{}]{Name: "work", Steps: []operation.Step[struct{}]{{Name: "one"}}})
	if err := r.Resume(t.Context()); err == nil || err.Error() != "read journal: it is torn" {
		t.Errorf("Resume: %v", err)
	}
	begun, waits := make(chan error), make(chan error)
	go func() {
		_, err := start(t.Context(), "work", struct{}{})
		begun <- err
	}()
	go func() { waits <- r.Resumed(t.Context()) }()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-begun; !errors.Is(err, operation.ErrDetached) {
		t.Errorf("begun: %v", err)
	}
	if err := <-waits; !errors.Is(err, operation.ErrDetached) {
		t.Errorf("Resumed: %v", err)
	}
}

// failing is a journal that cannot be read.
type failing struct{ *operationtest.Memory }

func (failing) List(context.Context, int, bool) ([]operation.Operation, error) {
	return nil, errors.New("it is torn")
}
