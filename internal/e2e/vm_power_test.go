//go:build vm

package e2e

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// upgradeSteps are the steps of an upgrade that have an effect, in order.
var upgradeSteps = []string{"fetch", "verify", "probe", "arm rescue", "activate", "restart", "prove", "settle"}

// cutAt upgrades and cuts the power at the event with which the operation enters a step.
func (g *guest) cutAt(name string, phase operationsv1.Phase, step string) (operation string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 6*time.Minute)
	defer cancel()
	_, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + name}, patientTrial(), func(e *client.Event) {
		if operation != "" || e.GetChange() == nil || e.Phase != phase || e.Step != step {
			return
		}
		operation = e.OperationId
		if err := g.PowerCut(); err != nil {
			g.t.Error(err)
		}
		cancel()
	})
	if detached := new(client.DetachedError); operation == "" || !errors.As(err, &detached) {
		g.t.Fatalf("the power was not cut in %s of %s: %v", step, name, err)
	}
	return operation
}

// settledAtBoot switches the guest on, waits until the operation has ended without a call,
// and returns it.
func (g *guest) settledAtBoot(operation string) *client.Operation {
	g.t.Helper()
	if err := g.BootAgain(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	// Not by a call, which would start the daemon.
	ctx, cancel := context.WithTimeout(g.t.Context(), 8*time.Minute)
	defer cancel()
	if _, err := g.Run(ctx, "while test -e /var/lib/trident/unsettled; do sleep 0.2; done", nil); err != nil {
		g.t.Fatal(err)
	}
	op, err := g.api.Operation(g.t.Context(), operation)
	if err != nil {
		g.t.Fatal(err)
	}
	return op
}

// checkLeftovers checks that a trial has left nothing behind. In the folder of Trident it
// expects the names kept, and the files of the rescuer. An image that Trident has verified
// has its record beside it.
func (g *guest) checkLeftovers(kept ...string) {
	g.t.Helper()
	g.sh("timeout 60 sh -c 'while pgrep -x trident-rescue; do sleep 0.2; done'") // looks once a second
	kept = append(kept, "rescue", "rescue.json", "rescue.json.bak", "rescue.lock")
	slices.Sort(kept)
	for _, c := range []struct{ dir, list, want string }{
		{"units", "ls -d /etc/systemd/system/*trident-rescue* /etc/systemd/system/.*trident* /etc/systemd/system/*.wants/*rescue*", ""},
		{"store", "ls -A /var/lib/trident/self", strings.Join(kept, " ")},
		{"extensions", "ls -A /var/lib/extensions | grep -v '^trident.raw$\\|^vendor$'", ""},
		{"overlays", "grep -c ' /usr .* - overlay ' /proc/1/mountinfo | grep -v '^[01]$'", ""},
		{"failed units", "systemctl list-units --failed --plain --no-legend", ""},
	} {
		if got := strings.Join(strings.Fields(g.sh(c.list+" 2>/dev/null || true")), " "); got != c.want {
			g.t.Errorf("%s: %q, want %q", c.dir, got, c.want)
		}
	}
}

func TestAnUpgradeSucceedsDespiteAPowerCutInAnyStep(t *testing.T) {
	for _, step := range cutsOfLanding(t, upgradeSteps) {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			op := g.settledAtBoot(g.cutAt("trident_2.0.0_x86-64.raw", operationsv1.Phase_PHASE_DOING, step))
			if op.Phase != operationsv1.Phase_PHASE_DONE {
				t.Errorf("ended %v", op)
			}
			g.checkVersion(good)
			g.checkLeftovers("2.0.0.raw", "2.0.0.json")
			if got := g.sh("dmsetup ls --target verity | wc -l"); got != "1" {
				t.Errorf("%s verity devices", got)
			}
			out, errs, code := g.trident("self", "status")
			if code != 0 || !strings.Contains(out, "2.0.0, from the extension") || !strings.Contains(out, "merged, read through dm-verity") {
				t.Errorf("self status: %d\n%s\n%s", code, out, errs)
			}
		})
	}
}

// checkRolledBack checks that a bad version is removed and blocked, and the reason.
func (g *guest) checkRolledBack(op *client.Operation, version, why string) {
	g.t.Helper()
	if op.Phase != operationsv1.Phase_PHASE_UNDONE || op.Failure.GetReason() != "UNHEALTHY" || !strings.Contains(op.Failure.GetMessage(), why) {
		g.t.Errorf("ended %v, want it undone because %q", op, why)
	}
	g.checkVersion(base)
	st, err := g.api.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if len(st.Images) != 0 || len(st.Blocked) != 1 || st.Blocked[0].Version != version || st.Blocked[0].OperationId != op.Id {
		g.t.Errorf("status %v, want %s blocked and gone", st, version)
	}
	if got := g.sh("ls -A " + st.Blocked[0].GetEvidence() + " | tr '\\n' ' '"); got != "journal.txt reason.txt rescue.json" {
		g.t.Errorf("evidence: %q", got)
	}
	g.checkLeftovers("evidence")
	_, errs, code := g.trident("self", "upgrade", "--on-host", "--allow-read-only-usr", strings.TrimPrefix(op.Summary, "upgrade trident from "))
	if code == 0 || !strings.Contains(errs, "failed on this host before") || !strings.Contains(errs, "trident self unblock "+version) {
		g.t.Errorf("offered again: %d, %s", code, errs)
	}
}

func TestABadVersionIsRolledBackDespiteAPowerCut(t *testing.T) {
	for _, step := range []string{"prove", "activate", "return", "arm rescue"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			// The version that lies gives itself up, so that both daemons undo steps.
			op := g.settledAtBoot(g.cutAt("lies.raw", operationsv1.Phase_PHASE_UNDOING, step))
			g.checkRolledBack(op, faults["lies"], "9.9.9 runs, not 3.0.3")
		})
	}
}

func TestTheRescuerRollsBackDespiteAPowerCut(t *testing.T) {
	for name, until := range map[string]string{
		"it has decided":        "true",
		"it has swung the link": "! test -L /var/lib/extensions/trident.raw",
		"it has unmerged":       "! test -e /usr/.systemd-sysext",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			upgrading := make(chan error, 1)
			go func() {
				_, err := g.api.Upgrade(ctx, client.Source{Path: "/share/exits.raw"}, patientTrial(), nil)
				upgrading <- err
				cancel()
			}()
			_, err := g.Run(ctx, `bash -c 'grep -qm 1 "giving up" <(journalctl --follow --lines=0 --identifier=trident-rescue)'
				until `+until+`; do sleep 0.05; done`, nil)
			if err != nil {
				t.Fatal(errors.Join(err, <-upgrading))
			}
			if err := g.PowerCut(); err != nil {
				t.Fatal(err)
			}
			cancel()
			detached := new(client.DetachedError)
			if err := <-upgrading; !errors.As(err, &detached) {
				t.Fatal(err)
			}
			g.checkRolledBack(g.settledAtBoot(detached.Operation), faults["exits"], "systemd had to restart it")
		})
	}
}
