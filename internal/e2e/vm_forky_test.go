//go:build vm

package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// startOn boots a guest of the image r and installs the package.
func startOn(t *testing.T, r lab.Recipe) *guest {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Image(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Boot(t.Context(), b, lab.Options{Share: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	g := drive(t, f, vm)
	g.booted()
	g.sh(installScript + "\nmkdir -p /var/lib/trident/self && chmod 700 /var/lib/trident/self") // as any operation would
	return g
}

func TestOnTheNewestSystemd(t *testing.T) {
	t.Parallel()
	g := startOn(t, lab.Forky())
	t.Logf("%s", g.sh("systemctl --version | head -n 1; rpm --version"))
	g.checkVersion(base)
	for _, c := range []struct {
		name   string
		change product.Change
		flip   bool
		kind   errkind.Kind
	}{
		{"an image that is not signed", product.Change{Unsigned: true}, false, errkind.Untrusted},
		{"an image signed with another key", product.Change{Stranger: true}, false, errkind.Untrusted},
		{"an image with a flipped byte", product.Change{}, true, errkind.Corrupt},
	} {
		t.Run("refuses "+c.name, func(t *testing.T) {
			g := g.inSubtest(t)
			c.change.Version = offered
			path, err := g.f.maker.Changed(t.Context(), "forky "+c.name, c.change)
			if err != nil {
				t.Fatal(err)
			}
			if c.flip {
				path = damaged(t, path, flipIn(dataPart, 20<<20))
			}
			before := g.hostState(exceptNothing)
			op, errs, code := g.offer("upgrade", path, "--allow-read-only-usr")
			if got := op.GetFailure().GetReason(); got != string(c.kind) || code != 5 || op.GetPhase() != operationsv1.Phase_PHASE_UNDONE {
				t.Errorf("%s, exit code %d, %s: %s", got, code, op.GetPhase(), errs)
			}
			if diff := cmp.Diff(before, g.hostState(exceptNothing)); diff != "" {
				t.Errorf("the host has changed (-before +after)\n%s", diff)
			}
		})
	}
	t.Run("upgrades", func(t *testing.T) {
		g := g.inSubtest(t)
		g.mustUpgrade("trident_2.0.0_x86-64.raw")
		g.checkVersion(good)
		g.checkLeftovers("2.0.0.raw", "2.0.0.json")
	})
	t.Run("throws a bad version back", func(t *testing.T) {
		g := g.inSubtest(t)
		_, err := g.upgrade("exits.raw", 2*time.Second, nil)
		if client.Kind(err) != "UNHEALTHY" {
			t.Errorf("%v", err)
		}
		g.checkVersion(good)
	})
	t.Run("has the new version after a reboot", func(t *testing.T) {
		g := g.inSubtest(t)
		g.reboot()
		g.checkVersion(good)
	})
	t.Run("rolls back", func(t *testing.T) {
		g := g.inSubtest(t)
		if _, errs, code := g.trident("self", "rollback", "--soak", "2s", "--deadline", "4m"); code != 0 {
			t.Fatalf("%d, %q", code, errs)
		}
		g.checkVersion(base)
	})
}
