package operation_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

// counting is a journal that knows how often it was used.
type counting struct {
	*operationtest.Memory
	saves, reads atomic.Int64
}

func (c *counting) Save(ctx context.Context, op operation.Operation, events ...operation.Event) error {
	c.saves.Add(1)
	return c.Memory.Save(ctx, op, events...)
}

func (c *counting) Events(ctx context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	c.reads.Add(1)
	return c.Memory.Events(ctx, id, after, limit)
}

// talking is a step that says n lines once it may, and then waits to be let go.
func talking(n int) (s step, say, leave chan struct{}) {
	say, leave = make(chan struct{}), make(chan struct{})
	return step{Name: "talk", Do: func(_ context.Context, r *run) error {
		<-say
		for i := range n {
			r.Progress(int64(i), int64(n))
			r.Logf(slog.LevelInfo, "line %d", i)
		}
		<-leave
		return nil
	}}, say, leave
}

// lines reads an operation to its end, and fails on what comes twice, out of
// order or not at all.
func lines(ctx context.Context, r *operation.Runner, id string) (n int, err error) {
	var last uint64
	for e, err := range r.Watch(ctx, id, 0) {
		if err != nil {
			return n, err
		}
		if last++; e.Sequence != last {
			return n, fmt.Errorf("event %d comes after %d", e.Sequence, last-1)
		}
		if e.Type != operation.Log {
			continue
		}
		if want := fmt.Sprintf("line %d", n); e.Message != want {
			return n, fmt.Errorf("%q comes in place of %q", e.Message, want)
		}
		n++
	}
	return n, nil
}

func TestABurstOfLogLinesIsJournaledTogetherInOrder(t *testing.T) {
	t.Parallel()
	b, journal := newBench(t), &counting{Memory: operationtest.NewMemory()}
	b.journal = journal
	s, say, leave := talking(1000)
	r, start := b.begin(s)
	op := b.start(start)
	close(say)
	close(leave)
	b.finish(r, op.ID)
	if n, err := lines(t.Context(), r, op.ID); n != 1000 || err != nil {
		t.Errorf("%d lines, %v", n, err)
	}
	if n := journal.saves.Load(); n > 100 {
		t.Errorf("%d saves of 1000 lines", n)
	}
	events, err := journal.Memory.Events(t.Context(), op.ID, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events { // what a line is about was said before it
		if e.Type == operation.Log && events[i-1].Type == operation.Log {
			t.Fatalf("%+v comes after %+v", e, events[i-1])
		}
	}
}

func TestTheLastLineIsShownThoughTheStepSaysNoMore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, say, leave := talking(3)
	r, start := b.begin(s)
	op := b.start(start)
	close(say)
	for e, err := range r.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Message == "line 2" {
			close(leave)
		}
	}
}

func TestDelayedEventsAreJournaledWhenTheRunnerStops(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	said := make(chan struct{})
	r, start := b.begin(step{Name: "talk", Do: func(ctx context.Context, r *run) error {
		for i := range 3 {
			r.Logf(slog.LevelInfo, "line %d", i)
		}
		close(said)
		<-ctx.Done()
		return ctx.Err()
	}})
	op := b.start(start)
	<-said
	b.stop(r)
	events, err := b.journal.Events(t.Context(), op.ID, 0, 100)
	if err != nil || len(events) == 0 || events[len(events)-1].Message != "line 2" {
		t.Errorf("journaled %+v, %v", events, err)
	}
}

func TestManyWatchersGetAllEventsWithoutReadingTheJournal(t *testing.T) {
	t.Parallel()
	const watchers = 50
	b, journal := newBench(t), &counting{Memory: operationtest.NewMemory()}
	b.journal = journal
	s, say, leave := talking(200)
	r, start := b.begin(s)
	op := b.start(start)
	type result struct {
		n   int
		err error
	}
	results := make(chan result)
	for range watchers {
		go func() {
			n, err := lines(t.Context(), r, op.ID)
			results <- result{n, err}
		}()
	}
	close(say)
	close(leave)
	for range watchers {
		if got := <-results; got != (result{200, nil}) {
			t.Errorf("%+v", got)
		}
	}
	if n := journal.reads.Load(); n != 0 {
		t.Errorf("the journal was read %d times", n)
	}
}

func TestAWatcherWhoIsFarBehindReadsTheJournal(t *testing.T) {
	t.Parallel()
	b, journal := newBench(t), &counting{Memory: operationtest.NewMemory()}
	b.journal = journal
	s, say, leave := talking(3000)
	r, start := b.begin(s)
	op := b.start(start)
	close(say)
	close(leave)
	b.finish(r, op.ID)
	if n, err := lines(t.Context(), r, op.ID); n != 3000 || err != nil || journal.reads.Load() == 0 {
		t.Errorf("%d lines, %v; the journal was read %d times", n, err, journal.reads.Load())
	}
}
