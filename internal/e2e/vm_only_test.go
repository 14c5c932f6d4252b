//go:build vm

package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// startWithoutPackage boots a host without the package: with an image in the store, the
// link by which systemd finds the image, and the certificate for Trident and for systemd.
func startWithoutPackage(t *testing.T) *guest {
	t.Helper()
	g := start(t)
	g.sh(`set -e
		mkdir -p /etc/trident/trust.d /etc/verity.d
		cp /usr/lib/verity.d/trident.crt /etc/trident/trust.d/
		cp /usr/lib/verity.d/trident.crt /etc/verity.d/
		rpm -e trident systemd-stub
		rm -rf /var/lib/trident
		test -z "$(find /usr /etc/systemd /run -iname '*trident*')"
		mkdir -p /var/lib/trident/self
		cp /share/trident_2.0.0_x86-64.raw /var/lib/trident/self/2.0.0.raw
		ln -s ../trident/self/2.0.0.raw /var/lib/extensions/trident.raw
		sync`)
	g.reboot()
	return g
}

// reboot restarts the guest and waits until systemd has started all units.
func (g *guest) reboot() {
	g.t.Helper()
	if err := g.Reboot(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.booted()
}

func (g *guest) booted() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 3*time.Minute)
	defer cancel()
	if err := g.WaitBoot(ctx); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) checkPrevious(version string) {
	g.t.Helper()
	st, err := g.api.Status(g.t.Context())
	if err != nil || st.BaseVersion != "" || st.RollbackTarget != version {
		g.t.Errorf("status %v, %v; want no base and a way back to %q", st, err, version)
	}
}

func TestAHostWithoutTheBasePackage(t *testing.T) {
	t.Parallel()
	g := startWithoutPackage(t)
	t.Run("has the socket after its boot", func(t *testing.T) {
		g := g.inSubtest(t)
		if got := g.sh("systemctl is-active tridentd.socket tridentd-resume.path tridentd.service; stat -c %a:%U:%G " + apiSocket + " || true"); got != "active\nactive\ninactive\n600:root:root" {
			t.Errorf("socket, path unit, service and socket file: %q", got)
		}
		if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, good) {
			t.Errorf("trident version: %d, %q, %q", code, out, errs)
		}
		g.checkVersion(good)
		g.checkPrevious("")
	})
	t.Run("has nothing to return to before it was ever upgraded", func(t *testing.T) {
		_, errs, code := g.inSubtest(t).trident("self", "rollback")
		if code == 0 || !strings.Contains(errs, "there is nothing to return to: this host has no base") {
			t.Errorf("%d, %q", code, errs)
		}
	})
	t.Run("upgrades", func(t *testing.T) {
		g := g.inSubtest(t)
		g.mustUpgrade("trident_2.1.0.raw")
		g.checkVersion(good2)
		g.checkPrevious(good)
	})
	t.Run("falls back to the extension before a bad version", func(t *testing.T) {
		g := g.inSubtest(t)
		op, err := g.upgrade("exits.raw", 2*time.Second, nil)
		if failed := new(client.OperationError); !errors.As(err, &failed) || op.Phase != operationsv1.Phase_PHASE_UNDONE || client.Kind(err) != "UNHEALTHY" {
			t.Fatalf("%v, %v", op, err)
		}
		g.checkFallback()
	})
	t.Run("falls back also when the power fails once the bad version is merged", func(t *testing.T) {
		g := g.inSubtest(t)
		op := g.settledAtBoot(g.cutAt("crashes.raw", operationsv1.Phase_PHASE_DOING, "restart"))
		if op.Phase != operationsv1.Phase_PHASE_UNDONE || op.Failure.GetReason() != "UNHEALTHY" {
			t.Fatalf("%v", op)
		}
		g.checkFallback()
	})
	t.Run("rolls back by command", func(t *testing.T) {
		g := g.inSubtest(t)
		if out, errs, code := g.trident("self", "rollback", "--soak", "2s", "--deadline", "4m"); code != 0 {
			t.Fatalf("%d, %q, %q", code, out, errs)
		}
		g.checkVersion(good)
		g.checkPrevious("")
	})
	t.Run("is as it was after a reboot", func(t *testing.T) {
		g := g.inSubtest(t)
		g.reboot()
		g.checkVersion(good)
		g.checkPrevious("")
	})
}

// checkFallback checks that 2.1.0 runs, and that a rollback leads to 2.0.0.
func (g *guest) checkFallback() {
	g.t.Helper()
	g.checkVersion(good2)
	g.checkPrevious(good)
	g.checkLeftovers("2.0.0.raw", "2.1.0.raw", "2.1.0.json", "previous", "evidence") // 2.0.0 came with the image of the host
	if got := g.sh("readlink /var/lib/extensions/trident.raw"); got != "../trident/self/2.1.0.raw" {
		g.t.Errorf("the link is %q", got)
	}
}
