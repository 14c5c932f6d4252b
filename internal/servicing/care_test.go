package servicing

import (
	"testing"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// A host in our care whose configuration is empty is not one that is about to be
// installed.
func TestAHostWithAnEmptyConfigurationIsUpdatedInTwoParts(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.ask(file("one"), true, false)
		if st := w.status(); st.Phase != hoststate.StagedRuntimeUpdate {
			t.Fatalf("%+v", st)
		}
		id, err := w.daemon.service.Finalize(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if op := w.finish(id); op.Phase != operation.Done || w.kindOf(op) != RuntimeUpdate || w.text("etc/f") != "one" {
			t.Fatalf("%+v, the file is %q", op, w.text("etc/f"))
		}
		id, err = w.daemon.service.Rollback(t.Context(), RollbackRequest{Stage: true})
		if err != nil {
			t.Fatal(err)
		}
		w.finish(id)
		if id, err = w.daemon.service.Rollback(t.Context(), RollbackRequest{Finalize: true}); err != nil {
			t.Fatal(err)
		}
		if op := w.finish(id); op.Phase != operation.Done || w.kindOf(op) != RuntimeRollback || w.text("etc/f") != "" {
			t.Fatalf("%+v, the file is %q", op, w.text("etc/f"))
		}
		// What fails on it now leaves it in our care.
		bad := file("two") + "\nhealth: {checks: [{name: it, runOn: [all], content: fail}]}"
		if op := w.ask(bad, true, true); op.Phase != operation.Undone || w.status().Phase != (hoststate.Settled{}) {
			t.Errorf("%+v, %+v", op, w.status())
		}
	})
}
