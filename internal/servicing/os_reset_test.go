package servicing

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/runtime"
	"github.com/trident-project/trident/internal/slot"
)

// resetting resets the host by its present plan.
func resetting(w *osWorld) (string, func(*Service) (string, error)) {
	return runtime.OpReset, func(s *Service) (string, error) {
		p, err := s.PlanReset(context.Background())
		if err != nil {
			return "", err
		}
		return s.Reset(context.Background(), p.Confirmation)
	}
}

// An installed host keeps its system and the extensions of the image, boots as before, and is
// recorded as not provisioned.
func TestAnInstalledHostIsReset(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	a := &album{v1: carrying(t, "v1", "11", g.app1), v2: carrying(t, "v2", "22", g.app2)}
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.must(updating(v2, true, true))
		p, err := w.daemon.service.PlanReset(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"    remove /etc/", "can roll back: 1", "  image: ", "  storage: "} {
			if !strings.Contains(p.String(), text) {
				t.Errorf("the plan lacks %q:\n%s", text, p)
			}
		}
		w.must(resetting)
		for range 2 { // then after a reboot
			if got, want := w.extensions(), fmt.Sprintf("var/lib/extensions/app.raw %.8s", g.app2.sha); got != want || w.slot != slot.B {
				t.Errorf("%v has the extensions %s, want %s", w.slot, got, want)
			}
			if got := w.text("etc/of.conf"); got != "" {
				t.Errorf("a file of the configuration is there: %q", got)
			}
			st := w.status()
			if st.Phase != (hoststate.Fresh{}) || st.Spec != "" || st.ABActiveVolume != "" || len(st.PartitionPaths) > 0 {
				t.Errorf("the status is %+v", st)
			}
			if id, err := w.daemon.service.Commit(t.Context(), false); id != "" || err != nil {
				t.Errorf("commit: %q, %v", id, err)
			}
			w.rest()
			w.powerOn()
		}
		_, err = w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(v1(a)), Stage: true, Finalize: true})
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "never provisioned") {
			t.Errorf("an update into the other slot: %v", err)
		}
		id, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(file("anew")), Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		if op := w.waiting(id); op.Phase != operation.Done || w.text("etc/f") != "anew" {
			t.Errorf("provisioned anew: %+v", op)
		}
		w.rest()
	})
}

func TestAResetDiscardsAStagedSystem(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(v2, true, false))
		w.must(resetting)
		w.rest()
		w.powerOn()
		if st := w.status(); st.Phase != (hoststate.Fresh{}) || w.slot != slot.A {
			t.Errorf("%v runs, and the status is %+v", w.slot, st)
		}
	})
}

func TestAResetDiscardsAStagedInstallation(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, false))
		p, err := w.daemon.service.PlanReset(t.Context())
		if err != nil || len(p.Effects()) != 1 || p.Effects()[0].Kind != "discard-staged" {
			t.Fatalf("%v, the plan:\n%s", err, p)
		}
		id, err := w.daemon.service.Reset(t.Context(), p.Confirmation)
		if err != nil {
			t.Fatal(err)
		}
		if op := w.waiting(id); op.Phase != operation.Done || w.status().Phase != (hoststate.Fresh{}) {
			t.Errorf("%+v, the status is %+v", op, w.status())
		}
		w.rest()
	})
}
