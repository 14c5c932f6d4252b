//go:build vm

package e2e

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
)

// checkStatusLines checks that the status has these lines.
func (g *guest) checkStatusLines(want ...string) {
	g.t.Helper()
	st := g.status()
	for _, w := range want {
		if !strings.Contains(st, w) {
			g.t.Errorf("the status does not say %q:\n%s", w, st)
		}
	}
}

// runPart runs one of the parts of a verb, which does not reboot.
func (g *guest) runPart(verb, part, config string) {
	g.t.Helper()
	if out, errs, code := g.trident(verb, "--allowed-operations", part, config); code != 0 {
		g.t.Fatalf("%s, %s: %d\n%s%s", verb, part, code, out, errs)
	}
}

func TestAnUpdateIsStagedAndFinalizedAfterAReboot(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"}))
	lap("installed machine")
	config := g.file(images[1].config(""))
	g.runPart("update", "stage", config)
	lap("staged")
	before := g.sh("efibootmgr")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("rebooted")
	g.checkBooted(images[0].Image) // and no images are served any more
	g.checkStatusLines("servicingState: ab-update-staged", "abActiveVolume: volume-a", images[0].SHA384, images[1].SHA384)
	if after := g.sh("efibootmgr"); after != before {
		t.Errorf("staging has changed what boots:\n%s\nit was\n%s", after, before)
	}
	said := g.runAcrossReboots(g.BootAgain, "update", "--allowed-operations", "finalize", config)
	if said.code != 0 {
		t.Fatalf("finalize: %+v", said)
	}
	g.awaitSettled()
	lap("finalized and settled")
	g.checkOS(images[1], "volume-b")
}

// A live system that keeps its datastore, for example on a stick, continues after its
// reboot. A live system that loses its datastore says that nothing is staged.
func TestAnInstallationIsStagedAndFinalizedAfterARebootOfTheLiveSystem(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	img := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}))[0]
	lap("live system")
	g.sh("touch /override-trident-safety-check; systemctl enable -q tridentd.socket")
	before := g.sh("efibootmgr")
	config := g.file(img.config(""))
	g.runPart("install", "stage", config)
	g.checkStatusLines("servicingState: clean-install-staged")
	lap("staged")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("rebooted")
	g.checkStatusLines("servicingState: clean-install-staged", img.SHA384)
	if after := g.sh("efibootmgr | grep -v ^BootCurrent"); !strings.Contains(before, after) {
		t.Errorf("staging has changed what boots:\n%s\nit was\n%s", after, before)
	}

	g.sh("systemctl stop tridentd.service && mv /var/lib/trident /var/lib/remembered")
	out, errs, code := g.trident("install", "--allowed-operations", "finalize", config)
	t.Log(errs)
	if code != 2 || !strings.Contains(errs, "no installation is staged") || strings.Count("\n"+errs, "\ntrident: ") != 1 {
		t.Errorf("finalize of what is not remembered: %d\n%s\n%s", code, out, errs)
	}
	g.sh("systemctl stop tridentd.service && rm -r /var/lib/trident && mv /var/lib/remembered /var/lib/trident")

	said := g.runAcrossReboots(g.BootInstalled, "install", "--allowed-operations", "finalize", config)
	if said.code != 0 {
		t.Fatalf("finalize: %+v", said)
	}
	g.awaitSettled()
	lap("finalized and settled")
	g.checkOS(img, "volume-a")
}
