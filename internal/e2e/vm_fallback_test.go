//go:build vm

package e2e

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
)

// fromDisk is a machine that was installed from the image 1.0.0 and runs from slot A.
var fromDisk struct {
	once     sync.Once
	snapshot *lab.Snapshot
}

// installedGuest loads the machine fromDisk, which the first caller makes.
func installedGuest(t *testing.T) *guest {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	first := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	fromDisk.once.Do(func() {
		g := liveGuest(t)
		g.install(g.serveImages(first)[0])
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

// updateFallsBack updates to a faulty image, gives an unhealthy system up soon, and
// checks that the old system runs again and says why.
func (g *guest) updateFallsBack(old, img hostedImage, trialTime, why string) {
	g.t.Helper()
	config := strings.NewReplacer("{trialTime: 4min}", "{trialTime: "+trialTime+"}", "timeoutSeconds: 120", "timeoutSeconds: 5").Replace(img.config(""))
	said := g.runAcrossReboots(g.BootAgain, "update", g.file(config))
	if said.code != 2 || !strings.Contains(said.errs, why) {
		g.t.Errorf("update to a bad image: %+v", said)
	}
	g.t.Log(said.errs)
	g.awaitSettled()
	g.checkOS(old, "volume-a")
	out, errs, code := g.trident("get", "last-error")
	if code != 0 || !strings.Contains(out, why) {
		g.t.Errorf("get last-error: %d, %s%s", code, out, errs)
	}
}

func TestAnUpdateThatDoesNotBootOrIsUnhealthyFallsBackAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	lap("installed machine")
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "3.0.0", Fault: osimage.DoesNotBoot}))
	g.updateFallsBack(images[0], images[1], "4min", "the new system in volume-b did not boot, or did not confirm itself in time")
	lap("does not boot")
	images = g.serveImages(images[0].Image, buildSystem(t, osimage.Spec{Version: "4.0.0", Fault: osimage.Unhealthy}), buildSystem(t, osimage.Spec{Version: "2.0.0"}))
	g.updateFallsBack(images[0], images[1], "4min", "Failed health check(s) during")
	lap("not healthy")
	images = g.serveImages(images[0].Image, images[2].Image)
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].config(""))); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("tried again")
	g.checkOS(images[1], "volume-b")
}

func TestAnUpdateWhoseTridentDoesNotStartFallsBack(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	lap("installed machine")
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "5.0.0", Fault: osimage.TridentBroken}))
	g.updateFallsBack(images[0], images[1], "2min", "did not confirm itself in time")
	lap("Trident does not start")
}
