package servicing

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

func withTrident(content string, p, app picture) string {
	return fmt.Sprintf("os: {additionalFiles: [{destination: /etc/f, content: %q}], sysexts: [{url: %q, sha384: %s}, {url: %q, sha384: %s}]}",
		content, p.url(), p.sha, app.url(), app.sha)
}

// onHostWithRestarts is onHost for what restarts the daemon in between.
func onHostWithRestarts(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	g := newGallery(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, g)
		w.powerOn()
		defer func() {
			w.changes.Wait()
			w.stopDaemon()
		}()
		w.ask(file("one"), true, true)
		test(t, w)
	})
}

// askAndWait is ask, while daemons come and go.
func (w *world) askAndWait(text string) operation.Operation {
	w.t.Helper()
	id, err := w.daemon.service.Update(context.Background(), UpdateRequest{Config: w.parse(text), Stage: true, Finalize: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 600 {
		time.Sleep(time.Second)
		synctest.Wait()
		w.changes.Wait()
		if op, err := w.daemon.store.Load(context.Background(), id); err != nil {
			w.t.Fatal(err)
		} else if op.Phase.Settled() {
			return op
		}
	}
	w.t.Fatal("it never settled")
	return operation.Operation{}
}

func TestTridentsOwnImageGoesThroughSelfServicing(t *testing.T) {
	t.Parallel()
	onHostWithRestarts(t, func(t *testing.T, w *world) {
		g := w.gallery
		op := w.askAndWait(withTrident("two", g.trident2, g.app1))
		if op.Phase != operation.Done || w.version() != "2.0.0" || w.daemon.service.Version != "2.0.0" || w.text("etc/f") != "two" {
			t.Fatalf("%s: %+v, version %s runs\n%s", op.Phase, op.Failure, w.daemon.service.Version, w.says(op.ID))
		}
		st := w.status()
		if st.Phase != (hoststate.Settled{}) || !strings.Contains(st.Spec, "path: "+change.OwnPath) || st.TridentVersion != "2.0.0" {
			t.Errorf("the status is %+v", st)
		}
		starts := w.lives
		op = w.askAndWait(withTrident("three", g.trident2, g.app2))
		if op.Phase != operation.Done || w.lives != starts || !strings.Contains(w.says(op.ID), "trident 2.0.0 runs already") {
			t.Errorf("%s: %+v\n%s", op.Phase, op.Failure, w.says(op.ID))
		}
		w.checkStore(w.status())
	})
}

func TestATridentThatDoesNotProveItselfTakesTheUpdateBack(t *testing.T) {
	t.Parallel()
	onHostWithRestarts(t, func(t *testing.T, w *world) {
		w.write("etc/systemd/system/multi-user.target.wants/some.service", "") // self-servicing makes that folder
		old := w.state()
		w.lies = true
		op := w.askAndWait(withTrident("two", w.gallery.trident2, w.gallery.app1))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy || op.Reached != "self prove" {
			t.Fatalf("%s at %s: %+v", op.Phase, op.Reached, op.Failure)
		}
		if diff := diffStates(w.state(), old); diff != "" || w.daemon.service.Version != baseVersion {
			t.Errorf("version %s runs; %s", w.daemon.service.Version, diff)
		}
		if st := w.status(); st.Phase != (hoststate.Settled{}) || st.LastError == nil {
			t.Errorf("the status is %+v", st)
		}
		blocked, err := w.daemon.store.Blocked(context.Background())
		if err != nil || len(blocked) != 1 || blocked[0].Version != "2.0.0" {
			t.Errorf("blocked: %+v, %v", blocked, err)
		}
	})
}

func TestATridentOfAStrangerIsRefusedThoughItsHashIsRight(t *testing.T) {
	t.Parallel()
	onHostWithRestarts(t, func(t *testing.T, w *world) {
		old := w.state()
		op := w.askAndWait(withTrident("two", w.gallery.stranger, w.gallery.app1))
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Untrusted || op.Reached != "fetch" {
			t.Errorf("%s at %s: %+v", op.Phase, op.Reached, op.Failure)
		}
		if diff := diffStates(w.state(), old); diff != "" {
			t.Error(diff)
		}
	})
}
