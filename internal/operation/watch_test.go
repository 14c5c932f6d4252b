package operation_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

func TestAWatcherSeesEachEventOnceAcrossARestart(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("b")
	r, start := b.begin(b.step("a"), s)
	op := b.start(start)
	<-running
	var seen []uint64
	detached := make(chan error, 1)
	go func() {
		for e, err := range r.Watch(context.Background(), op.ID, 0) {
			if err != nil {
				detached <- err
				return
			}
			seen = append(seen, e.Sequence)
		}
		detached <- nil
	}()
	b.stop(r)
	if err := <-detached; !errors.Is(err, operation.ErrDetached) || errkind.Of(err) != errkind.Unavailable {
		t.Fatalf("watch ended with %v", err)
	}
	r, _ = b.begin(b.step("a"), b.step("b"))
	for e, err := range r.Watch(t.Context(), op.ID, seen[len(seen)-1]) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, e.Sequence)
	}
	for i, n := range seen {
		if n != uint64(i)+1 {
			t.Fatalf("sequence %v", seen)
		}
	}
}

func TestASlowWatcherHoldsUpNobody(t *testing.T) {
	b := newBench(t)
	r, start := b.begin(b.step("a"), b.step("b"))
	op := b.start(start)
	next, stop := iter.Pull2(r.Watch(t.Context(), op.ID, 0))
	defer stop()
	if _, err, ok := next(); err != nil || !ok { // one event, then it sleeps
		t.Fatal(err)
	}
	if op := b.finish(r, op.ID); op.Phase != operation.Done {
		t.Errorf("%s", op.Phase)
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("a")
	r, start := b.begin(s)
	op := b.start(start)
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	var last error
	for _, err := range r.Watch(ctx, op.ID, 0) {
		last = err
	}
	if !errors.Is(last, context.DeadlineExceeded) {
		t.Errorf("ended with %v", last)
	}
	for _, err := range r.Watch(t.Context(), "none", 0) {
		if errkind.Of(err) != errkind.NotFound {
			t.Errorf("watch of nothing: %v", err)
		}
	}
}

func TestTheJournalInMemoryIsAJournal(t *testing.T) {
	m := operationtest.NewMemory()
	operationtest.Suite(t, func(*testing.T) operation.Journal { return m })
}
