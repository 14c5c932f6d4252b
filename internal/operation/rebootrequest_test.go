package operation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// rebooting is a step that asks for a reboot.
func (b *bench) rebooting(ask func(context.Context) error) step {
	s := b.step("reboot")
	s.Do = func(context.Context, *run) error {
		b.did("+reboot")
		return operation.RequestReboot(func(ctx context.Context) error {
			b.did("ask")
			return ask(ctx)
		})
	}
	return s
}

func TestARebootIsAskedForOnceTheWaitIsJournaledAndTold(t *testing.T) {
	b := newBench(t)
	told, asked := make(chan struct{}), make(chan operation.Operation, 1)
	var id string
	ask := func(ctx context.Context) error {
		<-told // by then those who watch know
		op, err := b.journal.Load(ctx, id)
		asked <- op
		return err
	}
	begun := make(chan struct{})
	a := b.step("a")
	a.Do = func(context.Context, *run) error { <-begun; return nil }
	steps := []step{a, b.rebooting(ask), b.step("c")}
	r, start := b.begin(steps...)
	id = b.start(start).ID
	close(begun)
	b.waiting(r, id)
	if got, _ := r.Get(t.Context(), id); !got.RequestOwed {
		t.Errorf("it waits, and nothing is to be asked for: %+v", got)
	}
	close(told)
	if got := <-asked; got.Waiting != operation.Reboot || !got.RequestOwed || got.WaitID != "0" {
		t.Errorf("journaled when the reboot was asked for: %+v", got)
	}
	if got, err := r.AwaitRequest(t.Context(), id); err != nil || got.RequestOwed || got.Waiting != operation.Reboot {
		t.Errorf("%+v, %v", got, err)
	}
	b.stop(r)
	r, _ = b.begin(steps...) // in the same boot: it goes down
	if got, _ := r.Get(t.Context(), id); got.Waiting != operation.Reboot {
		t.Errorf("%+v", got)
	}
	b.boot++
	r, _ = b.begin(steps...)
	if op := b.finish(r, id); op.Phase != operation.Done {
		t.Errorf("%s", op.Phase)
	}
	b.want("+reboot ask +c")
}

func TestARebootThatCannotBeAskedForIsTheStepsFailure(t *testing.T) {
	for undo, want := range map[bool]operation.Phase{false: operation.Undone, true: operation.Stuck} {
		b := newBench(t)
		refused := func(context.Context) error { return errkind.Errorf(errkind.Unavailable, "no reboot today") }
		steps, trace := []step{b.step("a"), b.rebooting(refused), b.step("c")}, "+a +reboot ask -reboot -a"
		if undo {
			back := step{Name: "reboot", Undo: b.rebooting(refused).Do}
			steps, trace = []step{b.step("a"), back, b.failing("c")}, "+a +c -c +reboot ask"
		}
		r, start := b.begin(steps...)
		op := b.finish(r, b.start(start).ID)
		message := map[bool]string{false: "reboot: no reboot today", true: "c: broken; undo reboot: no reboot today"}[undo]
		if op.Phase != want || op.Failure.Message != message || op.Waiting != "" || op.WaitID != "" || op.RequestOwed {
			t.Errorf("%+v, %+v", op, op.Failure)
		}
		b.want(trace)
	}
}

func TestTheNextDaemonOfTheBootRequestsAMissingReboot(t *testing.T) {
	for _, otherBoot := range []bool{false, true} {
		b := newBench(t)
		asking := make(chan struct{})
		first := true
		steps := []step{b.step("a"), b.rebooting(func(ctx context.Context) error {
			if !first {
				return nil
			}
			first = false
			close(asking)
			<-ctx.Done()
			return context.Cause(ctx)
		}), b.step("c")}
		r, start := b.begin(steps...)
		op := b.start(start)
		<-asking
		detached := make(chan error, 1)
		go func() {
			_, err := r.AwaitRequest(context.Background(), op.ID)
			detached <- err
		}()
		b.stop(r)
		if err := <-detached; !errors.Is(err, operation.ErrDetached) {
			t.Errorf("who asked: %v", err)
		}
		if otherBoot { // the power went
			b.boot++
		}
		r, _ = b.begin(steps...)
		trace := "+a +reboot ask +c"
		if !otherBoot {
			trace = "+a +reboot ask +reboot ask +c"
			b.waiting(r, op.ID)
			if got, err := r.AwaitRequest(t.Context(), op.ID); err != nil || got.Waiting != operation.Reboot {
				t.Errorf("%+v, %v", got, err)
			}
			b.stop(r)
			b.boot++
			r, _ = b.begin(steps...)
		}
		if op := b.finish(r, op.ID); op.Phase != operation.Done {
			t.Errorf("%s", op.Phase)
		}
		b.want(trace)
	}
}

func TestACancelledOperationDoesNotAskForAReboot(t *testing.T) {
	b := newBench(t)
	s := b.rebooting(func(context.Context) error { return nil })
	running, do := make(chan struct{}), s.Do
	s.Do = func(ctx context.Context, r *run) error {
		close(running)
		<-ctx.Done()
		return do(ctx, r)
	}
	r, start := b.begin(b.step("a"), s, b.step("c"))
	op := b.start(start)
	<-running
	if _, err := r.Cancel(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, err := range r.Watch(ctx, op.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.want("+a +reboot -reboot -a")
}
