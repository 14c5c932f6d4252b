package operation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

// fullDisk is a journal that refuses for a while, from a write on that is counted from 0.
type fullDisk struct {
	*operationtest.Memory

	mu     sync.Mutex
	writes int
	from   int // the write that is the first to be refused; -1: none is
	during time.Duration
	until  time.Time
}

func newFullDisk(from int, during time.Duration) *fullDisk {
	d := &fullDisk{Memory: operationtest.NewMemory(), from: from, during: during}
	d.Refuse = func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.writes == d.from && d.until.IsZero() {
			d.until = time.Now().Add(d.during)
		}
		if time.Now().Before(d.until) {
			return errkind.WithHint(errkind.Errorf(errkind.NoSpace, "the disk is full"), "free it")
		}
		d.writes++
		return nil
	}
	return d
}

// free ends the refusing.
func (d *fullDisk) free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Time{}.Add(1)
}

// fill has all writes refused until free is called.
func (d *fullDisk) fill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(1000 * time.Hour)
}

// journey runs an operation that says things, saves its record, restarts and reboots,
// forwards or also backwards, to its end.
func journey(t *testing.T, b *bench, fails bool) operation.Operation {
	says := func(name string) step {
		act := func(ctx context.Context, r *run) error {
			r.State.Count++
			r.Progress(1, 2)
			r.Logf(slog.LevelInfo, "%s", name)
			return r.Save(ctx)
		}
		return step{Name: name, Do: act, Undo: act}
	}
	waits := func(name string, err error) step {
		act := func(ctx context.Context, r *run) error { return errors.Join(r.Save(ctx), err) }
		return step{Name: name, Do: act, Undo: act}
	}
	asks := func(context.Context, *run) error {
		return operation.RequestReboot(func(context.Context) error { return nil })
	}
	steps := []step{says("a"), waits("restart", operation.ErrRestart), {Name: "reboot", Do: asks, Undo: asks}, says("b"), says("c"), says("last")}
	if fails {
		steps[4].Do = func(context.Context, *run) error { return errkind.Errorf(errkind.Corrupt, "broken") }
	}
	r, start := b.begin(steps...)
	op, err := start(t.Context(), "test it", record{})
	for err != nil { // nothing has begun, and the caller was told
		if errkind.Of(err) != errkind.NoSpace {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		op, err = start(t.Context(), "test it", record{})
	}
	var after uint64
	for {
		waiting := false
		for e, err := range r.Watch(t.Context(), op.ID, after) {
			if err != nil {
				t.Fatal(err)
			}
			after = e.Sequence
			if waiting = e.Waiting != ""; waiting {
				break
			}
		}
		if !waiting {
			op, err := r.Get(t.Context(), op.ID)
			if err != nil {
				t.Fatal(err)
			}
			return op
		}
		if _, err := r.AwaitRequest(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		b.stop(r)
		b.boot++
		r, _ = b.begin(steps...)
	}
}

func TestADiskThatIsFullForAWhileIsSurvivedAtEveryJournalWrite(t *testing.T) {
	for _, fails := range []bool{false, true} {
		var want operation.Operation
		writes := 0
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			disk := newFullDisk(-1, 0)
			b.journal = disk
			want = journey(t, b, fails)
			writes = disk.writes
		})
		if phase := map[bool]operation.Phase{false: operation.Done, true: operation.Undone}[fails]; want.Phase != phase || writes < 15 {
			t.Fatalf("undisturbed it ends %s after %d writes", want.Phase, writes)
		}
		for _, during := range []time.Duration{2 * time.Second, 20 * time.Second, 200 * time.Second} {
			for n := range writes {
				t.Run(fmt.Sprintf("%s, %s from write %d on", want.Phase, during, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t)
						b.journal = newFullDisk(n, during)
						got := journey(t, b, fails)
						if got.Phase != want.Phase || got.Failure.Err() != nil && got.Failure.Message != want.Failure.Message || string(got.State) != string(want.State) {
							t.Errorf("it ends %s %+v with %s, and undisturbed %s %+v with %s", got.Phase, got.Failure, got.State, want.Phase, want.Failure, want.State)
						}
					})
				})
			}
		}
	}
}

func TestAHaltedOperationIsSeenAndGoesOnByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		disk := newFullDisk(-1, 0)
		b.journal = disk
		bad := b.step("b")
		bad.Do = func(context.Context, *run) error {
			disk.fill()
			return errkind.Errorf(errkind.Corrupt, "broken")
		}
		bad.Undo = func(context.Context, *run) error { return nil } // it frees nothing
		r, start := b.begin(b.step("a"), bad)
		op := b.start(start)
		var halts []operation.Event
		for e, err := range r.Follow(t.Context(), op.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != operation.Halting {
				continue
			}
			halts = append(halts, e)
			if len(halts) == 1 {
				get, err := r.Get(t.Context(), op.ID)
				list, lerr := r.List(t.Context(), 1, true)
				if err != nil || lerr != nil || get.Halted == nil || list[0].Halted == nil || !r.Halted() {
					t.Errorf("get %+v %v, list %+v %v, halted %v", get, err, list, lerr, r.Halted())
				}
				if get.Step != "b" || get.Phase != operation.Doing || get.Sequence != e.Sequence {
					t.Errorf("what is seen is not what is journaled: %+v", get)
				}
				time.Sleep(5 * time.Minute)
				disk.free()
			}
		}
		if len(halts) != 2 || halts[1].Failure != nil || halts[1].Sequence < halts[0].Sequence {
			t.Fatalf("%+v", halts)
		}
		cause := halts[0].Failure
		if want := "b: broken; then: write journal: the disk is full"; cause == nil || cause.Message != want || cause.Kind != errkind.NoSpace || cause.Hint != "free it" {
			t.Errorf("it is halted by %+v, want %q", cause, want)
		}
		if op, _ := r.Get(t.Context(), op.ID); op.Phase != operation.Undone || op.Failure.Message != "b: broken" || op.Halted != nil || r.Halted() {
			t.Errorf("%s %+v %+v", op.Phase, op.Failure, op.Halted)
		}
	})
}

// settleOf waits until an operation has ended.
func settleOf(t *testing.T, r *operation.Runner, id string) operation.Operation {
	t.Helper()
	for _, err := range r.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	op, err := r.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// Who cancels because the disk is full must not be told that the disk is full.
func TestAHaltedOperationIsCancelledAndFreesWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		disk := newFullDisk(-1, 0)
		b.journal = disk
		fill := step{
			Name: "fill",
			Do:   func(context.Context, *run) error { disk.fill(); return nil },
			Undo: func(context.Context, *run) error { disk.free(); return nil },
		}
		r, start := b.begin(b.step("a"), fill, b.step("c"), b.step("d"))
		op := b.start(start)
		time.Sleep(time.Minute)
		if !r.Halted() {
			t.Fatal("it is not halted")
		}
		if got, err := r.Cancel(t.Context(), op.ID); err != nil || got.Halted == nil {
			t.Errorf("cancel: %+v, %v", got, err)
		}
		if op := settleOf(t, r, op.ID); op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		b.want("+a -a")
	})
}

func TestAHaltedOperationStopsAtOnceAndIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		disk := newFullDisk(-1, 0)
		b.journal = disk
		full := b.step("b")
		full.Do = func(context.Context, *run) error { disk.fill(); b.did("+b"); return nil }
		r, start := b.begin(b.step("a"), full, b.step("c"))
		op := b.start(start)
		time.Sleep(10 * time.Minute)
		before := time.Now()
		b.stop(r)
		if took := time.Since(before); took > time.Second {
			t.Errorf("it stopped after %s", took)
		}
		// The next daemon finds the disk full, too.
		r, _ = b.begin(b.step("a"), b.step("b"), b.step("c"))
		if err := r.Resumed(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if got, err := r.Get(t.Context(), op.ID); err != nil || got.Halted == nil || got.Step != "b" {
			t.Errorf("%+v, %v", got, err)
		}
		disk.free()
		if op := settleOf(t, r, op.ID); op.Phase != operation.Done {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		b.want("+a +b +b +c")
	})
}

func TestAnUndoIsTriedAgainWhileTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		begin := time.Now()
		full := func(name string, d time.Duration) func(context.Context, *run) error {
			return func(context.Context, *run) error {
				if time.Since(begin) < d {
					return fmt.Errorf("write: %w", errkind.Errorf(errkind.NoSpace, "no space"))
				}
				b.did(name)
				return nil
			}
		}
		a := b.step("a")
		a.Undo = full("-a", 200*time.Second)
		r, start := b.begin(a, b.failing("b"), b.step("c"))
		op := b.start(start)
		time.Sleep(time.Minute)
		if got, _ := r.Get(t.Context(), op.ID); got.Halted == nil || !strings.HasPrefix(got.Halted.Cause.Message, "b: broken; undo a: write: no space") {
			t.Errorf("%+v", got.Halted)
		}
		if op := settleOf(t, r, op.ID); op.Phase != operation.Undone || op.Failure.Message != "b: broken" {
			t.Errorf("%s %+v", op.Phase, op.Failure)
		}
		b.want("+a +b -b -a")
	})
}

func TestAWriteThatIsInsistedOnWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		tries := 0
		s := b.step("a")
		s.Do = func(ctx context.Context, _ *run) error {
			return operation.Insist(ctx, func() error {
				if tries++; tries < 9 {
					return errkind.Errorf(errkind.NoSpace, "no space")
				}
				return errkind.Errorf(errkind.Corrupt, "damaged")
			})
		}
		r, start := b.begin(s, b.step("b"))
		op := b.start(start)
		time.Sleep(5 * time.Second)
		if !r.Halted() {
			t.Error("it is not halted")
		}
		if op := settleOf(t, r, op.ID); op.Failure.Message != "a: damaged" || tries != 9 || r.Halted() {
			t.Errorf("%+v after %d tries", op.Failure, tries)
		}
		if err := operation.Insist(t.Context(), func() error { return errkind.Errorf(errkind.NoSpace, "no space") }); err == nil {
			t.Error("outside of an operation it waits")
		}
	})
}

// kill is a host on which the process ends in a step, without a word, every time.
type kill struct {
	*bench
	starts int
}

// run starts processes until the operation has ended.
func (k *kill) run(t *testing.T, steps []step, dies chan struct{}) operation.Operation {
	t.Helper()
	r, start := k.begin(steps...)
	op := k.start(start)
	for k.starts = 1; k.starts <= 40; k.starts++ {
		ended, events := make(chan struct{}), r.Watch(t.Context(), op.ID, 0)
		go func() {
			for _, err := range events {
				if err != nil {
					break
				}
			}
			close(ended)
		}()
		select {
		case <-ended:
			op, err := r.Get(t.Context(), op.ID)
			if err != nil {
				t.Fatal(err)
			}
			return op
		case <-dies:
		}
		// The old process writes to what was the disk.
		k.journal = k.journal.(*operationtest.Memory).Clone()
		k.boot += k.starts % 2
		r, _ = k.begin(steps...)
	}
	t.Fatal("it goes on without end")
	return op
}

func TestAStepThatEndsTheProcessIsNotBegunWithoutEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		undo  bool
		phase operation.Phase
		want  string // of the message
		trace string
	}{
		{"Do", false, operation.Undone, "b: Trident ended 5 times in this step before the step was finished", "+a !b !b !b !b !b -b -a"},
		{"Undo", true, operation.Stuck, "c: broken; undo b: Trident ended 5 times in this step before the step was finished", "+a +b +c -c !b !b !b !b !b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &kill{bench: newBench(t)}
			dies := make(chan struct{})
			deadly := func(ctx context.Context, _ *run) error {
				k.did("!b")
				dies <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			b, last := k.step("b"), k.step("c")
			if c.undo {
				b.Undo, last = deadly, k.failing("c")
			} else {
				b.Do = deadly
			}
			op := k.run(t, []step{k.step("a"), b, last, k.step("d")}, dies)
			if op.Phase != c.phase || op.Failure.Message != c.want || c.undo == (op.Failure.Kind == errkind.Internal) {
				t.Errorf("%s %+v", op.Phase, op.Failure)
			}
			k.want(c.trace)
		})
	}
}

func TestAStepThatAdvancesMayBeginAnyNumberOfTimes(t *testing.T) {
	for _, c := range []struct {
		name string
		on   func(context.Context, *run, int64) error // gets on to the piece n of 30
		ends operation.Phase
	}{
		{"by checkpoints", func(ctx context.Context, r *run, n int64) error { return r.Checkpoint(ctx) }, operation.Done},
		{"by bytes", func(ctx context.Context, r *run, n int64) error {
			r.ProgressKept(n*100, 3000)
			r.Logf(slog.LevelWarn, "a line") // the process ends after a while
			time.Sleep(time.Second)
			return nil
		}, operation.Done},
		{"by the same bytes", func(ctx context.Context, r *run, n int64) error {
			r.ProgressKept(300, 3000)
			time.Sleep(time.Second)
			return nil
		}, operation.Undone},
		{"not at all", func(ctx context.Context, r *run, n int64) error { return r.Save(ctx) }, operation.Undone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kill{bench: newBench(t)}
				dies := make(chan struct{})
				n := int64(0)
				b := k.step("b")
				b.Do = func(ctx context.Context, r *run) error {
					if n++; n >= 30 {
						return nil
					}
					if err := c.on(ctx, r, n); err != nil {
						return err
					}
					dies <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				}
				if op := k.run(t, []step{k.step("a"), b, k.step("c")}, dies); op.Phase != c.ends {
					t.Errorf("%s %+v after %d starts", op.Phase, op.Failure, k.starts)
				}
			})
		})
	}
}

// Who stops the daemon properly does not blame the step, but a step that has it
// stopped each time does not go on for ever either.
func TestAStepIsNotBlamedForADaemonThatIsAskedToStop(t *testing.T) {
	b := newBench(t)
	s, running := b.blocking("b")
	steps := []step{b.step("a"), s, b.step("c")}
	r, start := b.begin(steps...)
	op := b.start(start)
	begins := 0
	for ; begins < 40; begins++ {
		select {
		case <-running:
		case <-r.Changed():
			if got, err := r.Get(t.Context(), op.ID); err == nil && got.Phase == operation.Doing {
				begins--
				continue
			}
			op := settleOf(t, r, op.ID)
			if begins != 20 || op.Phase != operation.Undone || !strings.HasPrefix(op.Failure.Message, "b: this step began 20 times") {
				t.Errorf("%d begins, %s %+v", begins, op.Phase, op.Failure)
			}
			return
		}
		b.stop(r)
		r, _ = b.begin(steps...)
	}
	t.Error("it goes on without end")
}

// A record of a version that did not count begins at nothing.
func TestARecordWithoutACountIsResumed(t *testing.T) {
	b := newBench(t)
	op := operation.Operation{ID: "1", Kind: "test", Phase: operation.Doing, Plan: []string{"a"}, Step: "a", State: []byte(`{}`)}
	if err := b.journal.Save(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	r, _ := b.begin(b.step("a"))
	if op := b.finish(r, "1"); op.Phase != operation.Done {
		t.Errorf("%+v", op)
	}
}

func TestCountingBeginsCausesNoExtraWrites(t *testing.T) {
	b := newBench(t)
	disk := newFullDisk(-1, 0)
	b.journal = disk
	r, start := b.begin(b.step("a"), b.step("b"), b.step("c"))
	b.finish(r, b.start(start).ID)
	if disk.writes != 4 {
		t.Errorf("%d writes for 3 steps", disk.writes)
	}
	if slices.Contains(b.marks, false) && len(b.marks) != 3 {
		t.Errorf("%v", b.marks)
	}
}

// Past its point of no return an operation cannot turn back, so a person has it go on.
func TestADecidedOperationIsStuckInTheLastStepAndRepeatsThatStep(t *testing.T) {
	k := &kill{bench: newBench(t)}
	dies := make(chan struct{})
	deadly := true
	last := step{
		Name: "last",
		Do: func(ctx context.Context, _ *run) error {
			if !deadly {
				k.did("+last")
				return nil
			}
			dies <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		},
		Undo: func(context.Context, *run) error { return fmt.Errorf("it is kept: %w", operation.ErrDecided) },
	}
	steps := []step{k.step("a"), last}
	op := k.run(t, steps, dies)
	if want := "last: Trident ended 5 times in this step before the step was finished; undo last: it is kept: the verdict is given and cannot be undone"; op.Phase != operation.Stuck || op.Failure.Message != want {
		t.Fatalf("%s %+v", op.Phase, op.Failure)
	}
	deadly = false
	r, _ := k.begin(steps...)
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	if op := settleOf(t, r, op.ID); op.Phase != operation.Done || op.Failure != nil {
		t.Errorf("%s %+v", op.Phase, op.Failure)
	}
	k.want("+a +last")
}
