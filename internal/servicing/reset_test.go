package servicing

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/runtime"
)

// resetPlan returns the plan of a reset of the host as it is.
func (w *world) resetPlan() *ResetPlan {
	w.t.Helper()
	p, err := w.daemon.service.PlanReset(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// reset resets the host and waits for the end.
func (w *world) reset() operation.Operation {
	w.t.Helper()
	id, err := w.daemon.service.Reset(context.Background(), w.resetPlan().Confirmation)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.finish(id)
}

// bare returns the state of a host that never had a configuration.
func bare(t *testing.T, g *gallery) map[string]string {
	w := newWorld(t, g)
	w.powerOn()
	defer w.stopDaemon()
	return w.state()
}

// checkReset checks that the host has nothing of a configuration, and is recorded as not
// provisioned.
func (w *world) checkReset(want map[string]string) {
	w.t.Helper()
	got := w.state()
	for name, what := range got { // a folder that a file needed
		if what == "folder" && want[name] == "" {
			delete(got, name)
		}
	}
	if diff := diffStates(got, want); diff != "" {
		w.t.Errorf("after the reset:\n%s\ntouches: %v", diff, w.Trace)
	}
	st := w.status()
	if st.Phase != (hoststate.Fresh{}) || st.Spec != "" || st.SpecOld != "" || st.LastError != nil {
		w.t.Errorf("the status is %+v", st)
	}
	chain, err := w.daemon.service.Chain(context.Background())
	if err != nil || len(chain) > 0 {
		w.t.Errorf("rollbacks are possible: %v, %v", chain, err)
	}
	for _, glob := range []string{"var/lib/trident/extensions/*", change.Dir + "/*"} {
		if left, err := filepath.Glob(filepath.Join(w.root, glob)); err != nil || len(left) > 0 {
			w.t.Errorf("left over: %v, %v", left, err)
		}
	}
}

// Wherever the power is cut in a reset, the host ends without anything of its configuration,
// and recorded as not provisioned.
func TestAResetSurvivesPowerCuts(t *testing.T) {
	g := newGallery(t)
	start := beginning{disk: tempDir(t)}
	var want map[string]string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, g)
		w.powerOn()
		w.set(before(g))
		w.set(wants(g, g.app2))
		w.stopDaemon()
		copyDisk(t, w.root, start.disk, nil)
		want = bare(t, g)
	})
	play := func(t *testing.T, cutAt int, after bool) *world {
		w := &world{t: t, gallery: g, root: tempDir(t)}
		copyDisk(t, start.disk, w.root, nil)
		w.powerOn()
		token := w.resetPlan().Confirmation
		w.Prepare(cutAt, after)
		var op *operation.Operation
		for op == nil || op.Kind != runtime.OpReset { // a cut before the operation began
			id, err := w.daemon.service.Reset(context.Background(), token)
			if err != nil && !w.daemon.dead {
				t.Fatal(err)
			}
			op = w.settle(id, "")
		}
		if op.Phase != operation.Done {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		w.checkReset(want)
		w.stopDaemon()
		return w
	}
	touches, cases := 0, 0
	synctest.Test(t, func(t *testing.T) {
		w := play(t, 0, false)
		touches = w.Touches
		t.Logf("touches: %s", strings.Join(w.Trace, ", "))
	})
	for n := 1; n <= touches; n++ {
		for _, after := range []bool{false, true} {
			if cases++; !hosttest.InTurn(cases) {
				continue
			}
			t.Run(fmt.Sprintf("cut at %d, after=%v", n, after), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { play(t, n, after) })
			})
		}
	}
	if cases < 20 {
		t.Errorf("%d cases only", cases)
	}
}

func TestAResetThatFailsLeavesTheHostInService(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		old := w.set(before(g))
		was, plan := w.status(), w.resetPlan()
		w.Prepare(0, false)
		w.FullAfter = "record begin"
		id, err := w.daemon.service.Reset(t.Context(), plan.Confirmation)
		if err != nil {
			t.Fatal(err)
		}
		op := w.finish(id)
		w.FullAfter = ""
		if op.Phase != operation.Undone {
			t.Fatalf("%s: %+v\n%v", op.Phase, op.Failure, w.Trace)
		}
		if got := w.state(); !maps.Equal(got, old) {
			t.Errorf("the host has changed:\n%s", diffStates(got, old))
		}
		if st := w.status(); st.Phase != (hoststate.Settled{}) || st.Spec != was.Spec || st.LastError == nil {
			t.Errorf("the status is %+v", st)
		}
		if again := w.resetPlan(); again.Confirmation == plan.Confirmation {
			t.Error("the confirmation does not depend on the recorded status")
		}
		if op := w.reset(); op.Phase != operation.Done {
			t.Errorf("again: %+v", op.Failure)
		}
	})
}

func TestAHostThatWasResetIsProvisionedAnew(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		first := w.set(before(g))
		if op := w.reset(); op.Phase != operation.Done || w.kindOf(op) != None {
			t.Fatalf("%s: %+v", op.Phase, op.Failure)
		}
		if again := w.set(before(g)); !maps.Equal(first, again) {
			t.Errorf("provisioned anew:\n%s", diffStates(again, first))
		}
		chain, err := w.daemon.service.Chain(t.Context())
		if err != nil || len(chain) != 1 || strings.Contains(chain[0].Spec, "app.conf") {
			t.Errorf("a rollback reaches behind the reset: %v, %v", chain, err)
		}
	})
}

func TestThePlanOfAResetSaysWhatIsLostAndWhatStays(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		w.set(before(g))
		w.set(wants(g, g.app2))
		old, was := w.state(), w.status()
		p := w.resetPlan()
		var kinds []string
		for _, e := range p.Effects() {
			kinds = append(kinds, e.Kind)
		}
		want := "remove-file remove-file apply-netplan remove-sysext remove-sysext remove-confext forget-rollbacks forget-configuration"
		if got := strings.Join(kinds, " "); got != want {
			t.Errorf("effects %s, want %s", got, want)
		}
		for _, text := range []string{"remove /etc/app.conf", "record the host as not provisioned", "can roll back: 2", "What stays:", "Trident itself", "scripts:"} {
			if !strings.Contains(p.String(), text) {
				t.Errorf("the plan lacks %q:\n%s", text, p)
			}
		}
		if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "network") {
			t.Errorf("warnings %q", p.Warnings)
		}
		if again := w.resetPlan(); again.Confirmation != p.Confirmation || len(p.Confirmation) != 16 {
			t.Errorf("the confirmation of the same plan: %q and %q", p.Confirmation, again.Confirmation)
		}
		if !maps.Equal(w.state(), old) || w.status().Row != was.Row {
			t.Error("a plan has changed the host")
		}
	})
}

func TestAResetNeedsTheConfirmationOfThePresentPlan(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		w.set(file("one"))
		outdated := w.resetPlan().Confirmation
		w.set(file("two"))
		other := w.resetPlan().Confirmation
		w.write("etc/machine-id", strings.Repeat("a", 32)+"\n")
		old := w.state()
		for token, kind := range map[string]errkind.Kind{"": errkind.Invalid, outdated: errkind.Precondition, other: errkind.Precondition, "yes": errkind.Precondition} {
			_, err := w.daemon.service.Reset(t.Context(), token)
			if errkind.Of(err) != kind || !strings.Contains(errkind.Hint(err), "trident host reset --plan") {
				t.Errorf("with %q: %v, hint %q", token, err, errkind.Hint(err))
			}
		}
		if !maps.Equal(w.state(), old) {
			t.Error("a refused reset has changed the host")
		}
	})
}

// What a person has removed or replaced by hand does not keep the host in service.
func TestAHostThatHasDriftedIsReset(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		want := w.state()
		w.set(before(g))
		links, err := filepath.Glob(filepath.Join(w.root, "var/lib/extensions/*"))
		if err != nil || len(links) != 1 {
			t.Fatalf("links %v, %v", links, err)
		}
		for _, name := range []string{links[0], filepath.Join(w.root, "etc/goes.conf")} {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		w.write("etc/app.conf", "by hand")
		if op := w.reset(); op.Phase != operation.Done {
			t.Fatalf("%+v", op.Failure)
		}
		if err := w.merge(extension.Sysext); err != nil { // as the next boot does
			t.Fatal(err)
		}
		w.checkReset(want)
	})
}

func TestAResetDiscardsWhatIsStaged(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		want := w.state()
		w.set(before(g))
		w.ask(wants(g, g.app2), true, false)
		if p := w.resetPlan(); p.Steps[0].Name != "begin" || p.Effects()[0].Kind != "discard-staged" {
			t.Errorf("the plan:\n%s", p)
		}
		if op := w.reset(); op.Phase != operation.Done {
			t.Fatalf("%+v", op.Failure)
		}
		w.checkReset(want)
	})
}

func TestAHostThatWasNeverProvisionedHasNothingToReset(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		if p := w.resetPlan(); p.Kind != None || len(p.Steps) > 0 || p.String() != NothingToReset+"\n" {
			t.Errorf("the plan:\n%s", p)
		}
		if op := w.reset(); op.Phase != operation.Done || !strings.Contains(w.says(op.ID), "nothing to reset") {
			t.Errorf("%s: %s", op.Phase, w.says(op.ID))
		}
	})
}

func TestAResetIsRefusedDuringATrialAndBesideAnOperation(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	onHostWith(t, g, func(t *testing.T, w *world) {
		w.set(before(g))
		token := w.resetPlan().Confirmation
		if _, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(wants(g, g.app2)), Stage: true, Finalize: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.daemon.service.Reset(t.Context(), token); errkind.Of(err) != errkind.Busy {
			t.Errorf("beside an operation: %v", err)
		}
		w.settle("", "")
		st := w.status()
		st.Phase, st.SpecOld = hoststate.TryingABUpdate, st.Spec
		if err := w.daemon.store.Record(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		if _, err := w.daemon.service.Reset(t.Context(), token); errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "on trial") {
			t.Errorf("during a trial: %v", err)
		}
		if _, err := w.daemon.service.PlanReset(t.Context()); errkind.Of(err) != errkind.Precondition {
			t.Errorf("a plan during a trial: %v", err)
		}
	})
}
