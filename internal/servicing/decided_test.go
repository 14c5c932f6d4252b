package servicing

import (
	"context"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// endedIn has the journal say that the daemon ended again and again in the last step,
// after all that the step does.
func endedIn(t *testing.T, store *hoststate.Store, op operation.Operation) {
	t.Helper()
	op.Phase, op.Begins, op.Stops, op.Step = operation.Doing, 10, 0, op.Plan[len(op.Plan)-1]
	if err := store.Save(context.Background(), op); err != nil {
		t.Fatal(err)
	}
}

// A host that has its new configuration must not be put back by what was kept for
// that and may be gone.
func TestADaemonThatEndsAgainAndAgainBehindThePointOfNoReturnTakesNothingBack(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.ask(file("one"), true, true)
		op := w.ask(file("two"), true, true)
		if op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		endedIn(t, w.daemon.store, op)
		w.stopDaemon()
		w.startDaemon()
		op = w.finish(op.ID)
		if op.Phase != operation.Stuck || !strings.Contains(op.Failure.Message, "the new configuration is recorded") || w.text("etc/f") != "two" {
			t.Fatalf("%s: %+v, %q", op.Phase, op.Failure, w.text("etc/f"))
		}
		if _, err := w.daemon.runner.Cancel(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		if op = w.finish(op.ID); op.Phase != operation.Done || w.text("etc/f") != "two" || w.status().LastError != nil {
			t.Errorf("%s: %+v, %q", op.Phase, op.Failure, w.text("etc/f"))
		}
	})
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(v2, true, true))
		ops, err := w.daemon.store.List(t.Context(), 1, false)
		if err != nil {
			t.Fatal(err)
		}
		op := ops[0]
		endedIn(t, w.daemon.store, op)
		w.stopDaemon()
		w.startDaemon()
		op = w.waiting(op.ID)
		if op.Phase != operation.Stuck || !strings.Contains(op.Failure.Message, "is the default boot entry") || w.reboots {
			t.Fatalf("%s: %+v", op.Phase, op.Failure)
		}
		if _, err := w.daemon.runner.Cancel(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		if op = w.waiting(op.ID); op.Phase != operation.Done {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
	})
}
