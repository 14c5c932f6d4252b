package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

type record struct {
	Count int `json:"count"`
}

type (
	run  = operation.Run[record]
	step = operation.Step[record]
)

// bench is one host: a journal, the trace of what its steps did, and the
// processes that ran on it.
type bench struct {
	t       *testing.T
	journal operation.Journal
	boot    int
	process int
	marks   []bool

	mu    sync.Mutex
	trace []string
}

func newBench(t *testing.T) *bench { return &bench{t: t, journal: operationtest.NewMemory()} }

func (b *bench) did(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trace = append(b.trace, s)
}

func (b *bench) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.trace, " ")
}

// begin is a new daemon process on the host.
func (b *bench) begin(steps ...step) (*operation.Runner, operation.Starter[record]) {
	b.t.Helper()
	b.process++
	r := operation.New(b.t.Context(), operation.Config{
		Journal: b.journal, Logger: slog.New(slog.DiscardHandler),
		Life:      operation.Life{Boot: fmt.Sprint(b.boot), Process: fmt.Sprint(b.process)},
		Unsettled: func(is bool) error { b.marks = append(b.marks, is); return nil },
	})
	start := operation.Register(r, operation.Kind[record]{Name: "test", Steps: steps})
	if err := r.Resume(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.stop(r) })
	return r, start
}

// stop ends a daemon process.
func (b *bench) stop(r *operation.Runner) {
	b.t.Helper()
	if err := r.Shutdown(context.Background()); err != nil {
		b.t.Error(err)
	}
}

// waiting watches until the operation waits.
func (b *bench) waiting(r *operation.Runner, id string) {
	b.t.Helper()
	for e, err := range r.Watch(b.t.Context(), id, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Waiting != "" {
			return
		}
	}
	b.t.Fatal("it does not wait")
}

// step is a step that leaves a trace.
func (b *bench) step(name string) step {
	return step{
		Name: name,
		Do:   func(context.Context, *run) error { b.did("+" + name); return nil },
		Undo: func(context.Context, *run) error { b.did("-" + name); return nil },
	}
}

func (b *bench) failing(name string) step {
	s := b.step(name)
	s.Do = func(context.Context, *run) error {
		b.did("+" + name)
		return errkind.WithName(errkind.WithHint(errkind.Errorf(errkind.Corrupt, "broken"), "mend it"), "DeployImages")
	}
	return s
}

func (b *bench) start(start operation.Starter[record]) operation.Operation {
	b.t.Helper()
	op, err := start(b.t.Context(), "test it", record{})
	if err != nil {
		b.t.Fatal(err)
	}
	return op
}

// finish watches an operation to its end and checks the events' numbers.
func (b *bench) finish(r *operation.Runner, id string) operation.Operation {
	b.t.Helper()
	var last uint64
	for e, err := range r.Watch(b.t.Context(), id, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Sequence != last+1 {
			b.t.Errorf("event %d after %d", e.Sequence, last)
		}
		last = e.Sequence
	}
	op, err := r.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	if !op.Phase.Settled() || op.Sequence != last {
		b.t.Errorf("watch ended at event %d of %+v", last, op)
	}
	return op
}

func (b *bench) want(trace string) {
	b.t.Helper()
	if got := b.said(); got != trace {
		b.t.Errorf("steps ran as\n  %s, want\n  %s", got, trace)
	}
}

func TestStepsRunInOrderAndTheOperationIsDone(t *testing.T) {
	b := newBench(t)
	r, start := b.begin(b.step("a"), b.step("b"))
	op := b.finish(r, b.start(start).ID)
	if op.Phase != operation.Done || op.Failure != nil {
		t.Errorf("%+v", op)
	}
	b.want("+a +b")
	if !slices.Equal(b.marks, []bool{false, true, false}) {
		t.Errorf("marked unsettled %v", b.marks)
	}
	if id, ok := r.Active(); ok {
		t.Errorf("%s is still active", id)
	}
}

func TestAFailedStepAndThePreviousStepsAreUndoneInReverse(t *testing.T) {
	b := newBench(t)
	only := step{Name: "back", Undo: b.step("back").Undo}
	r, start := b.begin(b.step("a"), only, step{Name: "reads", Do: b.step("reads").Do}, b.failing("c"), b.step("d"))
	op := b.finish(r, b.start(start).ID)
	b.want("+a +reads +c -c -back -a")
	want := &operation.Failure{Kind: errkind.Corrupt, Message: "c: broken", Hint: "mend it", Name: "DeployImages", File: "internal/operation_test/operation_test.go"}
	want.Line = op.Failure.Line
	if diff := cmp.Diff(want, op.Failure); diff != "" || op.Phase != operation.Undone {
		t.Errorf("%s %s", op.Phase, diff)
	}
	var states []operation.StepState
	for _, s := range op.Steps() {
		states = append(states, s.State)
	}
	if diff := cmp.Diff([]operation.StepState{"undone", "undone", "undone", "undone", "pending"}, states); diff != "" {
		t.Error(diff)
	}
	if err := op.Failure.Err(); errkind.Of(err) != errkind.Corrupt || errkind.Hint(err) != "mend it" || err.Error() != "c: broken" {
		t.Errorf("failure as an error: %v", err)
	}
}

func TestAPanicIsTheStepsFailure(t *testing.T) {
	b := newBench(t)
	bad := b.step("b")
	bad.Do = func(context.Context, *run) error { panic("oh") }
	r, start := b.begin(b.step("a"), bad)
	op := b.finish(r, b.start(start).ID)
	b.want("+a -b -a")
	if op.Failure.Message != "b: panic: oh" {
		t.Errorf("%+v", op.Failure)
	}
}

func TestAStuckOperationBlocksOthersUntilItIsUndone(t *testing.T) {
	b := newBench(t)
	broken := true
	a := b.step("a")
	a.Undo = func(context.Context, *run) error {
		b.did("-a")
		if broken {
			return errors.New("cannot")
		}
		return nil
	}
	r, start := b.begin(a, b.failing("b"))
	op := b.finish(r, b.start(start).ID)
	if op.Phase != operation.Stuck || op.Failure.Message != "b: broken; undo a: cannot" {
		t.Fatalf("%s %+v", op.Phase, op.Failure)
	}
	r, start = b.begin(a, b.failing("b")) // also for the next daemon
	if _, err := start(t.Context(), "", record{}); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), op.ID) {
		t.Errorf("start while stuck: %v", err)
	}
	broken = false
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	if op := b.finish(r, op.ID); op.Phase != operation.Undone {
		t.Errorf("%s", op.Phase)
	}
	b.finish(r, b.start(start).ID)
}

// blocking is a step that says when it runs and ends with its context.
func (b *bench) blocking(name string) (s step, running chan struct{}) {
	running = make(chan struct{}, 8)
	s = b.step(name)
	s.Do = func(ctx context.Context, _ *run) error {
		b.did("+" + name)
		running <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	return s, running
}

func TestASecondOperationIsToldWhichOneRuns(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("a")
	_, start := b.begin(s, b.step("b"))
	op := b.start(start)
	<-running
	_, err := start(t.Context(), "", record{})
	if errkind.Of(err) != errkind.Busy || !strings.Contains(err.Error(), op.ID) || !strings.Contains(errkind.Hint(err), op.ID) {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
}

func TestACancelledOperationIsUndone(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("b")
	r, start := b.begin(b.step("a"), s, b.step("c"))
	op := b.start(start)
	<-running
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	op = b.finish(r, op.ID)
	b.want("+a +b -b -a")
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
		t.Errorf("%s %+v", op.Phase, op.Failure)
	}
	if _, err := r.Cancel(t.Context(), op.ID); errkind.Of(err) != errkind.Precondition {
		t.Errorf("cancel of what has ended: %v", err)
	}
	if _, err := r.Cancel(t.Context(), "none"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("cancel of nothing: %v", err)
	}
}

func TestTheLastStepIsPastCancelling(t *testing.T) {
	b := newBench(t)
	s, goOn := b.step("b"), make(chan struct{})
	running := make(chan struct{})
	s.Do = func(ctx context.Context, _ *run) error {
		close(running)
		<-goOn
		return ctx.Err()
	}
	r, start := b.begin(b.step("a"), s)
	op := b.start(start)
	<-running
	if _, err := r.Cancel(t.Context(), op.ID); errkind.Of(err) != errkind.Precondition {
		t.Errorf("cancel: %v", err)
	}
	close(goOn)
	if op := b.finish(r, op.ID); op.Phase != operation.Done {
		t.Errorf("%s %+v", op.Phase, op.Failure)
	}
}

func TestAStepCutShortByAShutdownRunsAgainInTheNextDaemon(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("b")
	r, start := b.begin(b.step("a"), s, b.step("c"))
	op := b.start(start)
	<-running
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t.Context(), "", record{}); !errors.Is(err, operation.ErrDetached) {
		t.Errorf("start after shutdown: %v", err)
	}
	r, _ = b.begin(b.step("a"), b.step("b"), b.step("c"))
	if op := b.finish(r, op.ID); op.Phase != operation.Done {
		t.Errorf("%s", op.Phase)
	}
	b.want("+a +b +b +c")
}

func TestARestartIsOverInTheNextProcessAndARebootInTheNextBoot(t *testing.T) {
	for _, reboot := range []bool{false, true} {
		b := newBench(t)
		wait := b.step("wait")
		wait.Do = func(context.Context, *run) error {
			b.did("+wait")
			if reboot {
				return operation.ErrReboot
			}
			return operation.ErrRestart
		}
		steps := []step{b.step("a"), wait, b.step("c")}
		r, start := b.begin(steps...)
		op := b.start(start)
		b.waiting(r, op.ID)
		if err := r.Resume(t.Context()); err != nil { // in the same life: it goes on waiting
			t.Fatal(err)
		}
		b.want("+a +wait")
		if reboot { // another process in the same boot waits too
			r, _ = b.begin(steps...)
			if got, _ := r.Get(t.Context(), op.ID); got.Waiting != operation.Reboot {
				t.Errorf("%+v", got)
			}
			b.boot++
		}
		r, _ = b.begin(steps...)
		if op := b.finish(r, op.ID); op.Phase != operation.Done {
			t.Errorf("%s", op.Phase)
		}
		b.want("+a +wait +c")
	}
}

func TestCancellingAWaitingOperationTakesEffectAfterTheRestart(t *testing.T) {
	b := newBench(t)
	wait := b.step("wait")
	wait.Do = func(context.Context, *run) error { return operation.ErrRestart }
	r, start := b.begin(b.step("a"), wait, b.step("c"), b.step("d"))
	op := b.start(start)
	b.waiting(r, op.ID)
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	r, _ = b.begin(b.step("a"), wait, b.step("c"), b.step("d"))
	op = b.finish(r, op.ID)
	b.want("+a +c -c -wait -a")
	if op.Failure.Kind != errkind.Cancelled {
		t.Errorf("%+v", op.Failure)
	}
}

func TestAnUndoMayWaitForARestartToo(t *testing.T) {
	b := newBench(t)
	back := step{Name: "back", Undo: func(context.Context, *run) error { b.did("-back"); return operation.ErrRestart }}
	r, start := b.begin(b.step("a"), back, b.failing("c"))
	op := b.start(start)
	b.waiting(r, op.ID)
	r, _ = b.begin(b.step("a"), back, b.failing("c"))
	if op := b.finish(r, op.ID); op.Phase != operation.Undone {
		t.Errorf("%s", op.Phase)
	}
	b.want("+a +c -c -back -a")
}

func TestAnOperationOfAnUnknownKindOrStepIsLeftForAVersionThatKnowsIt(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("new step")
	r, start := b.begin(s, b.step("b"))
	op := b.start(start)
	<-running
	b.stop(r)
	r, start = b.begin(b.step("a")) // an older release without that step
	if got, ok := r.Active(); !ok || got != op.ID {
		t.Errorf("active: %s, %v", got, ok)
	}
	if _, err := start(t.Context(), "", record{}); errkind.Of(err) != errkind.Busy {
		t.Errorf("start: %v", err)
	}
	if _, err := r.Cancel(t.Context(), op.ID); errkind.Of(err) != errkind.Precondition {
		t.Errorf("cancel: %v", err)
	}
	r, _ = b.begin(b.step("new step"), b.step("b"))
	if op := b.finish(r, op.ID); op.Phase != operation.Done {
		t.Errorf("%s", op.Phase)
	}
}

func TestFieldsOfANewerReleaseStayInTheRecord(t *testing.T) {
	b := newBench(t)
	count := b.step("a")
	count.Do = func(ctx context.Context, r *run) error { r.State.Count++; return r.Save(ctx) }
	op := operation.Operation{ID: "1", Kind: "test", Phase: operation.Doing, Plan: []string{"a"}, Step: "a",
		State: json.RawMessage(`{"count":1,"from_the_future":{"x":[1,2]}}`)}
	if err := b.journal.Save(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	r, _ := b.begin(count)
	op = b.finish(r, "1")
	if got, want := string(op.State), `{"count":2,"from_the_future":{"x":[1,2]}}`; got != want {
		t.Errorf("record %s, want %s", got, want)
	}
}

func TestProgressIsThinnedButTheLastIsKept(t *testing.T) {
	b := newBench(t)
	s := b.step("a")
	s.Do = func(_ context.Context, r *run) error {
		for n := range int64(100_000) {
			r.Progress(n+1, 100_000)
		}
		r.Logf(slog.LevelWarn, "look: %d", 7)
		return nil
	}
	r, start := b.begin(s)
	op := b.start(start)
	var progress, logs []operation.Event
	for e, err := range r.Watch(t.Context(), op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Type {
		case operation.Progress:
			progress = append(progress, e)
		case operation.Log:
			logs = append(logs, e)
		}
	}
	if n := len(progress); n == 0 || n > 50 || progress[n-1].Done != 100_000 || progress[n-1].Total != 100_000 {
		t.Errorf("%d progress events, the last %+v", n, progress[max(n-1, 0):])
	}
	if len(logs) != 1 || logs[0].Message != "look: 7" || logs[0].Level != slog.LevelWarn {
		t.Errorf("%+v", logs)
	}
}

func TestAFullDiskIsFreedByTheFailedStepsOwnUndo(t *testing.T) {
	b := newBench(t)
	memory := operationtest.NewMemory()
	b.journal = memory
	full := false
	memory.Refuse = func() error {
		if full {
			return errkind.Errorf(errkind.NoSpace, "disk full")
		}
		return nil
	}
	fill := step{
		Name: "fill",
		Do:   func(context.Context, *run) error { full = true; return errkind.Errorf(errkind.NoSpace, "disk full") },
		Undo: func(context.Context, *run) error { full = false; b.did("-fill"); return nil },
	}
	r, start := b.begin(b.step("a"), fill, b.step("c"))
	op := b.finish(r, b.start(start).ID)
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.NoSpace {
		t.Errorf("%s %+v", op.Phase, op.Failure)
	}
	b.want("+a -fill -fill -a")
}

func TestAnOperationThatCannotBeMarkedOrJournaledDoesNotBegin(t *testing.T) {
	b := newBench(t)
	memory := operationtest.NewMemory()
	b.journal = memory
	r, start := b.begin(b.step("a"))
	memory.Refuse = func() error { return errors.New("read-only") }
	if _, err := start(t.Context(), "", record{}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("err = %v", err)
	}
	if _, ok := r.Active(); ok || b.said() != "" {
		t.Errorf("it began: %s", b.said())
	}
	if !slices.Equal(b.marks, []bool{false, true, false}) {
		t.Errorf("marked unsettled %v", b.marks)
	}
}

func TestAnOperationIsPreemptedOnlyWhileItYields(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("b")
	r, start := b.begin(b.step("a"), s, b.step("c"))
	if err := r.Preempt(t.Context(), func(operation.Operation) bool { t.Error("asked of nothing"); return true }); err != nil {
		t.Fatal(err)
	}
	op := b.start(start)
	<-running
	if err := r.Preempt(t.Context(), func(o operation.Operation) bool { return o.ID == op.ID && o.Step != "b" }); err != nil {
		t.Fatal(err)
	}
	if id, ok := r.Active(); !ok || id != op.ID {
		t.Fatal("it was cancelled")
	}
	if err := r.Preempt(t.Context(), func(o operation.Operation) bool { return o.Step == "b" }); err != nil {
		t.Fatal(err)
	}
	if op, err := r.Get(t.Context(), op.ID); err != nil || op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
		t.Errorf("%+v, %v", op, err)
	}
	b.want("+a +b -b -a")
	if _, ok := r.Active(); ok {
		t.Error("it is still in the way")
	}
}
