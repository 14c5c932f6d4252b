//go:build vm

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
)

func TestThePackageIsInstalledByRPMAndTheSocketAnswers(t *testing.T) {
	g := start(t)
	if got := g.sh("rpm -q trident"); !strings.HasPrefix(got, "trident-1.0.0") {
		t.Errorf("rpm knows %q", got)
	}
	if got := g.sh("systemctl is-enabled tridentd.socket; systemctl is-active tridentd.socket; stat -c %a:%U:%G " + apiSocket); got != "enabled\nactive\n600:root:root" {
		t.Errorf("socket: %q", got)
	}
	out, errs, code := g.trident("version")
	if code != 0 || !strings.Contains(out, base) {
		t.Errorf("trident version: %d, %q, %q", code, out, errs)
	}
	g.runs(base)
}

func TestUpgradeFromAFileOnTheHost(t *testing.T) {
	g := start(t)
	var steps []string
	op, err := g.upgrade("trident_2.0.0_x86-64.raw", 2*time.Second, func(e *client.Event) {
		if e.GetChange() != nil {
			steps = append(steps, e.Step)
		}
		t.Logf("%3d %-8s %-12s %v", e.Sequence, e.Phase, e.Step, e.Body)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v %v", op, steps)
	g.runs(good)
	if got := g.sh("dmsetup ls --target verity"); !strings.Contains(got, "-verity") {
		t.Errorf("verity devices: %q", got)
	}
}
