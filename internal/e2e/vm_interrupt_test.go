//go:build vm

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// running is a command trident that has not ended.
type running struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// begin starts the command on this machine against the guest.
func (g *guest) begin(args ...string) *running {
	g.t.Helper()
	r := &running{t: g.t}
	r.cmd = exec.CommandContext(g.t.Context(), g.f.trident, append([]string{"--socket", g.socket}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	return r
}

// end waits for the command.
func (r *running) end() (stdout, stderr string, code int) {
	r.t.Helper()
	limit := time.AfterFunc(4*time.Minute, func() { _ = r.cmd.Process.Kill() })
	defer limit.Stop()
	if err := r.cmd.Wait(); err != nil && r.cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return r.stdout.String(), r.stderr.String(), r.cmd.ProcessState.ExitCode()
}

// operation returns the operation that has not ended.
func (g *guest) operation() *client.Operation {
	g.t.Helper()
	ops, err := g.api.Operations(g.t.Context(), 0, true)
	if err != nil || len(ops) != 1 {
		g.t.Fatalf("operations that have not ended: %v, %v", ops, err)
	}
	return ops[0]
}

// leftovers returns what an operation may leave behind on the guest, without what it keeps
// on purpose: the copy and the record of the rescuer, and evidence.
func (g *guest) leftovers() string {
	g.t.Helper()
	// The rescuer ends up to a second after the trial. systemd-udevd keeps files of one
	// merged image open until it reloads.
	g.sh(`timeout 60 sh -c 'while systemctl --quiet is-active "trident-rescue*"; do sleep 0.2; done'
		udevadm control --reload
		timeout 60 sh -c 'while [ $(dmsetup ls --target verity | grep -c verity) -gt 1 ]; do sleep 0.2; done' || true`)
	return g.sh(`exec 2>&1
		findmnt --raw --noheadings --output TARGET,FSTYPE | sort
		echo loops: $(losetup --list --noheadings --output BACK-FILE | sort)
		echo devices: $(dmsetup ls --target verity | cut -f1)
		echo rescuers: $(systemctl list-units --plain --no-legend "trident-rescue*"; pgrep -l trident-rescue)
		echo link: $(readlink /var/lib/extensions/trident.raw)
		echo files:
		mkdir -p /var/lib/trident/self
		find /var/lib/trident/self /var/lib/extensions /etc/systemd/system -mindepth 1 \( -path "*/system/*" ! -name "trident*" -o -name "rescue.*" -o -name rescue -o -name evidence \) -prune -o -printf "%p %l\n" | sort`)
}

func TestASecondUpgradeIsRefusedAndTheFirstCanBeCancelled(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.cancelledWhileItFetches()
	g.cancelledWhileTheNewVersionIsTried()
}

func (g *guest) cancelledWhileItFetches() {
	server := g.serve(goodImage, true)
	server.holdAt = 10 << 20
	before := g.leftovers()
	first := g.begin("self", "upgrade", "--allow-read-only-usr", server.url)
	server.nextRequest()
	op := g.operation()

	out, errs, code := g.trident("self", "upgrade", "--on-host", "/share/"+good2Image)
	if code != 6 || out != "" || !strings.Contains(errs, "another operation is running: upgrade trident from "+server.url+" ("+op.Id+")") ||
		!strings.Contains(errs, "hint: follow it with: trident operation watch "+op.Id) {
		g.t.Errorf("the second upgrade: %d, %q, %q", code, out, errs)
	}

	if _, errs, code := g.trident("operation", "cancel", op.Id); code != 0 {
		g.t.Errorf("trident operation cancel: %d, %s", code, errs)
	}
	_, errs, code = first.end()
	if code != 2 || !strings.Contains(errs, "cancelled") || !strings.Contains(errs, "Trident 1.0.0 runs.\n") {
		g.t.Errorf("the cancelled upgrade: %d\n%s", code, errs)
	}
	g.checkVersion(base)
	if after := g.leftovers(); after != before {
		g.t.Errorf("a cancelled download left:\n%s\nbefore it there was:\n%s", after, before)
	}
}

// cancelledWhileTheNewVersionIsTried cancels an operation that has replaced the daemon.
func (g *guest) cancelledWhileTheNewVersionIsTried() {
	before := g.leftovers()
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Minute)
	defer cancel()
	var answered string
	tried := func(e *client.Event) {
		if e.Step != "prove" || e.GetLog() == nil || answered != "" {
			return
		}
		var err error
		if answered, err = g.api.Version(ctx); err != nil {
			g.t.Error(err)
		}
		if _, err := g.api.Cancel(ctx, e.OperationId); err != nil {
			g.t.Error(err)
		}
	}
	_, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + goodImage}, untimedTrial(time.Minute), tried)
	if client.Kind(err) != "CANCELLED" || answered != good {
		g.t.Fatalf("cancelled while %s answered: %v", answered, err)
	}
	g.checkVersion(base)
	st, err := g.api.Status(ctx)
	if err != nil || len(st.Blocked) != 0 || len(st.Images) != 0 {
		g.t.Errorf("a version that was given up, but did not fail: %v, %v", st, err)
	}
	if after := g.leftovers(); after != before {
		g.t.Errorf("a cancelled trial left:\n%s\nbefore it there was:\n%s", after, before)
	}
}

func TestAnOperationContinuesAfterItsCommandIsInterruptedAndAnotherCommandWatchesIt(t *testing.T) {
	t.Parallel()
	g := start(t)
	server := g.serve(goodImage, true)
	server.holdAt = 10 << 20
	first := g.begin("self", "upgrade", "--allow-read-only-usr", "--soak", "2s", "--deadline", "5m", server.url)
	server.nextRequest()
	op := g.operation()
	if err := first.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, errs, code := first.end()
	hint := "hint: The operation goes on. Watch it again: trident operation watch " + op.Id + " --socket " + g.socket + "\n"
	if code != 130 || !strings.HasSuffix(errs, hint) {
		t.Fatalf("after Ctrl-C: %d\n%s", code, errs)
	}
	if now := g.operation(); now.Id != op.Id || now.Step != "fetch" || now.Phase != op.Phase {
		t.Errorf("after Ctrl-C: %v", now)
	}

	// As the hint says, with what was seen already.
	second := g.begin("operation", "watch", op.Id)
	close(server.release)
	out, errs, code := second.end()
	if code != 0 || out != "Trident 2.0.0 runs now.\n" {
		t.Errorf("trident operation watch: %d, %q", code, out)
	}
	inOrder(t, errs, "fetch\n", "verify\n", "Trident restarts; watching again\n", "Trident 2.0.0 answers\n", "trident 2.0.0 is kept\n")
	g.checkVersion(good)

	// The events of an ended operation can still be watched.
	out, _, code = g.trident("operation", "watch", op.Id)
	if code != 0 || out != "Trident 2.0.0 runs now.\n" {
		t.Errorf("trident operation watch of one that has ended: %d, %q", code, out)
	}
	if _, err := g.api.Cancel(t.Context(), op.Id); client.Kind(err) != "PRECONDITION" {
		t.Errorf("cancel of one that has ended: %v", err)
	}
}
