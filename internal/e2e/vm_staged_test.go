//go:build vm

package e2e

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
)

// says checks lines of the status.
func (g *guest) says(want ...string) {
	g.t.Helper()
	st := g.status()
	for _, w := range want {
		if !strings.Contains(st, w) {
			g.t.Errorf("the status does not say %q:\n%s", w, st)
		}
	}
}

// part does a part of a verb that reboots nothing.
func (g *guest) part(verb, part, config string) {
	g.t.Helper()
	if out, errs, code := g.trident(verb, "--allowed-operations", part, config); code != 0 {
		g.t.Fatalf("%s, %s: %d\n%s%s", verb, part, code, out, errs)
	}
}

func TestAnUpdateIsStagedAndFinalizedAfterAReboot(t *testing.T) {
	t.Parallel()
	lap := laps(t)
	g := installed(t)
	images := g.hosts(system(t, osimage.Spec{Version: "1.0.0"}), system(t, osimage.Spec{Version: "2.0.0"}))
	lap("installed machine")
	config := g.file(images[1].config(""))
	g.part("update", "stage", config)
	lap("staged")
	before := g.sh("efibootmgr")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("rebooted")
	g.bootedInto(images[0].Image) // and no images are served any more
	g.says("servicingState: ab-update-staged", "abActiveVolume: volume-a", images[0].SHA384, images[1].SHA384)
	if after := g.sh("efibootmgr"); after != before {
		t.Errorf("staging has changed what boots:\n%s\nit was\n%s", after, before)
	}
	said := g.across(g.BootAgain, "update", "--allowed-operations", "finalize", config)
	if said.code != 0 {
		t.Fatalf("finalize: %+v", said)
	}
	g.unsettled()
	lap("finalized and settled")
	g.runsOS(images[1], "volume-b")
}

// A live system that keeps its datastore, as one on a stick does, goes on after its
// reboot. One that does not knows of nothing, and says so.
func TestAnInstallationIsStagedAndFinalizedAfterARebootOfTheLiveSystem(t *testing.T) {
	t.Parallel()
	lap := laps(t)
	g := live(t)
	img := g.hosts(system(t, osimage.Spec{Version: "1.0.0"}))[0]
	lap("live system")
	g.sh("touch /override-trident-safety-check; systemctl enable -q tridentd.socket")
	before := g.sh("efibootmgr")
	config := g.file(img.config(""))
	g.part("install", "stage", config)
	g.says("servicingState: clean-install-staged")
	lap("staged")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("rebooted")
	g.says("servicingState: clean-install-staged", img.SHA384)
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

	said := g.across(g.BootInstalled, "install", "--allowed-operations", "finalize", config)
	if said.code != 0 {
		t.Fatalf("finalize: %+v", said)
	}
	g.unsettled()
	lap("finalized and settled")
	g.runsOS(img, "volume-a")
}
