package operation_test

import (
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

func TestAPausedOperationContinuesByCommand(t *testing.T) {
	for name, restart := range map[string]bool{"in the same daemon": false, "after a restart of the daemon": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			steps := []step{b.step("one"), b.step("two"), b.step("three")}
			r, start := b.begin(steps...)
			op, err := start(operation.WithPause(t.Context(), "two"), "test it", record{})
			if err != nil {
				t.Fatal(err)
			}
			b.waiting(r, op.ID)
			if restart {
				b.stop(r)
				r, _ = b.begin(steps...)
			}
			if op, err = r.Get(t.Context(), op.ID); err != nil || op.Waiting != operation.Continue || op.Phase != operation.Doing {
				t.Fatalf("%+v, %v", op, err)
			}
			if s := op.Steps(); s[0].State != operation.StepDone || s[1].State != operation.StepPending {
				t.Errorf("steps %v", s)
			}
			if got := b.said(); got != "+one" {
				t.Errorf("paused after %q", got)
			}
			if _, err := r.Continue(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			if op = b.finish(r, op.ID); op.Phase != operation.Done || b.said() != "+one +two +three" {
				t.Errorf("%s: %s", op.Phase, b.said())
			}
			if _, err := r.Continue(t.Context(), op.ID); errkind.Of(err) != errkind.Precondition {
				t.Errorf("continue what has ended: %v", err)
			}
		})
	}
}

func TestAPausedOperationThatIsCancelledIsUndone(t *testing.T) {
	for name, restart := range map[string]bool{"in the same daemon": false, "after a restart of the daemon": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			steps := []step{b.step("one"), b.step("two"), b.step("three")}
			r, start := b.begin(steps...)
			op, err := start(operation.WithPause(t.Context(), "three"), "test it", record{})
			if err != nil {
				t.Fatal(err)
			}
			b.waiting(r, op.ID)
			if restart {
				b.stop(r)
				r, _ = b.begin(steps...)
			}
			if _, err := r.Cancel(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			op = b.finish(r, op.ID)
			if op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled || b.said() != "+one +two -two -one" {
				t.Errorf("%s, %+v: %s", op.Phase, op.Failure, b.said())
			}
		})
	}
}

func TestAnOperationPausesOnlyBeforeAStepThatItHas(t *testing.T) {
	b := newBench(t)
	_, start := b.begin(b.step("one"), b.step("two"))
	for _, name := range []string{"one", "four"} {
		if _, err := start(operation.WithPause(t.Context(), name), "test it", record{}); errkind.Of(err) != errkind.Invalid {
			t.Errorf("a pause before %q: %v, want Invalid", name, err)
		}
	}
	if b.said() != "" {
		t.Errorf("it began: %s", b.said())
	}
}

// A version that does not know of pauses advances from the step in the journal, which is done.
func TestAPausedOperationIsReadByTheReleaseBefore(t *testing.T) {
	b := newBench(t)
	r, start := b.begin(b.step("one"), b.step("two"))
	op, err := start(operation.WithPause(t.Context(), "two"), "test it", record{})
	if err != nil {
		t.Fatal(err)
	}
	b.waiting(r, op.ID)
	stored, err := b.journal.Load(t.Context(), op.ID)
	if err != nil || stored.Step != "one" || stored.Waiting == "" || stored.WaitID != "" || stored.PauseBefore != "" {
		t.Errorf("the journal has %+v, %v", stored, err)
	}
}
