//go:build vm

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// fromDisk is a machine that was installed from the image 1.0.0 and runs from slot A.
var fromDisk struct {
	once     sync.Once
	snapshot *lab.Snapshot
}

// installed loads such a machine, which the first test that wants one makes.
func installed(t *testing.T) *guest {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	first := system(t, osimage.Spec{Version: "1.0.0"})
	fromDisk.once.Do(func() {
		g := live(t)
		g.install(g.hosts(first)[0])
		s, err := g.Save(t.Context(), filepath.Join(f.work, "from-disk"))
		if err != nil {
			t.Fatal(err)
		}
		fromDisk.snapshot = s
	})
	if fromDisk.snapshot == nil {
		t.Fatal("no machine could be installed: see the first test that wanted one")
	}
	vm, err := lab.Load(t.Context(), fromDisk.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, &f.fixture, vm)
}

// fallsBack updates to an image that is no good.
func (g *guest) fallsBack(old, img hostedImage, more, why string) {
	g.t.Helper()
	config := strings.Replace(img.config(""), "{trialTime: 4min}", "{trialTime: "+more+"}", 1)
	said := g.across(g.BootAgain, "update", g.file(config))
	if said.code != 2 || !strings.Contains(said.errs, why) {
		g.t.Errorf("update to a bad image: %+v", said)
	}
	g.t.Log(said.errs)
	g.unsettled()
	g.runsOS(old, "volume-a")
	out, errs, code := g.trident("get", "last-error")
	if code != 0 || !strings.Contains(out, why) {
		g.t.Errorf("get last-error: %d, %s%s", code, out, errs)
	}
}

func TestAnUpdateThatDoesNotBootOrIsNotHealthyLandsBackAndCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	lap := laps(t)
	g := installed(t)
	lap("installed machine")
	images := g.hosts(system(t, osimage.Spec{Version: "1.0.0"}), system(t, osimage.Spec{Version: "3.0.0", Fault: osimage.DoesNotBoot}))
	g.fallsBack(images[0], images[1], "4min", "the new system in volume-b did not boot, or did not confirm itself in time")
	lap("does not boot")
	images = g.hosts(images[0].Image, system(t, osimage.Spec{Version: "4.0.0", Fault: osimage.Unhealthy}), system(t, osimage.Spec{Version: "2.0.0"}))
	g.fallsBack(images[0], images[1], "4min", "1 of 1 health checks failed")
	lap("not healthy")
	images = g.hosts(images[0].Image, images[2].Image)
	if said := g.across(g.BootAgain, "update", g.file(images[1].config(""))); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.unsettled()
	lap("tried again")
	g.runsOS(images[1], "volume-b")
}

func TestAnUpdateWhoseTridentDoesNotStartLandsBack(t *testing.T) {
	t.Parallel()
	lap := laps(t)
	g := installed(t)
	lap("installed machine")
	images := g.hosts(system(t, osimage.Spec{Version: "1.0.0"}), system(t, osimage.Spec{Version: "5.0.0", Fault: osimage.TridentBroken}))
	g.fallsBack(images[0], images[1], "2min", "did not confirm itself in time")
	lap("Trident does not start")
}

func TestAnUpdateSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	lap := laps(t)
	g := installed(t)
	lap("installed machine")
	first, second := system(t, osimage.Spec{Version: "1.0.0"}), system(t, osimage.Spec{Version: "2.0.0"})
	runs, volumes := first, []string{"volume-a", "volume-b"}
	for _, cut := range []struct {
		step  string
		phase operationsv1.Phase
	}{
		{"write", operationsv1.Phase_PHASE_DOING}, {"boot files", operationsv1.Phase_PHASE_DOING}, {"reboot", operationsv1.Phase_PHASE_DOING},
		{"health", operationsv1.Phase_PHASE_DOING}, {"settle", operationsv1.Phase_PHASE_DOING},
	} {
		next := second
		if runs.SHA384 == second.SHA384 {
			next = first
		}
		images := g.hosts(runs, next)
		op := g.cutInUpdate(images[1], cut.phase, cut.step)
		lap("cut in " + cut.step)
		g.carriesOn(runs, next)
		got, err := g.api.Operation(t.Context(), op)
		if err != nil {
			t.Fatal(err)
		}
		lap("settled: " + got.Phase.String())
		switch got.Phase {
		case operationsv1.Phase_PHASE_DONE:
			runs, volumes = next, []string{volumes[1], volumes[0]}
			g.runsOS(images[1], volumes[0])
		case operationsv1.Phase_PHASE_UNDONE:
			g.runsOS(images[0], volumes[0])
		default:
			t.Fatalf("after a power cut in %s: %v", cut.step, got)
		}
	}
}

// cutInUpdate updates, and cuts the power as soon as it hears that the operation has
// come to a step. The machine is on again when it returns.
func (g *guest) cutInUpdate(img hostedImage, phase operationsv1.Phase, step string) (id string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 12*time.Minute)
	defer cancel()
	cut := false
	booting := g.reboots(ctx, g.BootAgain)
	_, err := g.api.Host().Update(ctx, &client.Config{Text: img.config("")}, client.How{}, func(e *client.Event) {
		if cut || e.GetChange() == nil || e.Phase != phase || e.Step != step {
			return
		}
		cut, id = true, e.OperationId
		if err := g.PowerCut(); err != nil {
			g.t.Error(err)
		}
		cancel()
	})
	if !cut {
		g.t.Fatalf("the power was not cut in %s: %v", step, err)
	}
	<-booting
	return id
}

// carriesOn switches the machine on, and again whenever it goes off, until the
// operation that was begun before has ended. It reaches the images.
func (g *guest) carriesOn(images ...osimage.Image) {
	g.t.Helper()
	if err := g.BootAgain(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.hosts(images...)
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Minute)
	defer cancel()
	booting := g.reboots(ctx, g.BootAgain)
	defer func() { cancel(); <-booting }()
	for ctx.Err() == nil {
		// A guest that goes off meanwhile is asked again.
		if _, err := g.Run(ctx, noMoreWork, nil); err == nil {
			return
		}
		if _, err := g.Run(ctx, "true", nil); err != nil && ctx.Err() == nil {
			g.t.Logf("the guest is away: %v", err)
			time.Sleep(time.Second)
		}
	}
	g.t.Fatal("the operation does not end")
}
