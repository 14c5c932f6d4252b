//go:build vm

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/proto/client"
)

// Images of the good versions, by their names in the share.
const (
	goodImage  = "trident_2.0.0_x86-64.raw"
	good2Image = "trident_2.1.0.raw"
)

// untimedTrial returns a trial of a good version with this soak and a long deadline.
func untimedTrial(soak time.Duration) *client.Trial {
	t := trial(soak)
	t.Deadline = durationpb.New(5 * time.Minute)
	return t
}

func TestThePackageIsInstalledByRPMAndTheSocketAnswers(t *testing.T) {
	t.Parallel()
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
	g.checkVersion(base)
	g.checkGateway()
}

// checkGateway installs the package of the gateway by rpm, sets the gateway up, calls through it,
// and upgrades all packages.
func (g *guest) checkGateway() {
	g.t.Helper()
	const unit, next = "trident-gateway.service", "1.5.0"
	g.rpm("--install /share/trident-gateway-" + base + "-1.x86_64.rpm")
	if got := g.sh("systemctl is-active " + unit + " || true"); got != "inactive" {
		g.t.Errorf("an installed gateway that nobody has set up: %q", got)
	}
	g.sh(`trident-gateway setup --name localhost --listen 127.0.0.1:7443 >/dev/null
		systemctl enable --now ` + unit + `
		cd /etc/trident/gateway
		export XDG_CONFIG_HOME=/root
		trident hosts add gw tls://localhost:7443 --ca ca.crt --certificate clients/admin.crt --key clients/admin.key`)
	const call = "XDG_CONFIG_HOME=/root trident --host gw version"
	if got := g.sh(call); !strings.Contains(got, "daemon: "+base) {
		g.t.Errorf("through the gateway: %q", got)
	}
	// The bound of docs/hardening.md, 2.0.
	g.sh("systemd-analyze security --no-pager --threshold=20 " + unit + " >/dev/null")

	before := g.sh("systemctl show -P MainPID " + unit)
	g.rpm("-U /share/trident-" + next + "-1.x86_64.rpm /share/trident-gateway-" + next + "-1.x86_64.rpm")
	after := g.sh("systemctl is-active " + unit + " >/dev/null; systemctl show -P MainPID " + unit)
	if after == before || after == "0" {
		g.t.Errorf("process %s of the gateway is %s after the upgrade", before, after)
	}
	if got := g.sh(call + "; cmp /proc/" + after + "/exe /usr/bin/trident-gateway; rpm -q trident-gateway"); !strings.Contains(got, "daemon: "+next) || !strings.Contains(got, "trident-gateway-"+next) {
		g.t.Errorf("through the upgraded gateway: %q", got)
	}
}

func TestAnIdleDaemonExitsAndTheNextCallStartsItAgain(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.sh(`mkdir -p /etc/systemd/system/tridentd.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/bin/tridentd --idle-timeout 2s\n' >/etc/systemd/system/tridentd.service.d/idle.conf
		systemctl daemon-reload
		systemctl try-restart tridentd.service`)
	// The idle connection of g.api stays open meanwhile: it does not keep the daemon alive.
	if v, err := g.api.Version(t.Context()); v != base || err != nil {
		t.Fatal(v, err)
	}
	const mainPID = "systemctl show --property MainPID --value tridentd.service"
	first := g.sh(mainPID)
	g.sh("timeout 60 tail --pid=" + first + " -f /dev/null")
	g.sh("timeout 60 sh -c 'until [ $(systemctl show -P ActiveState tridentd.service) = inactive ]; do sleep 0.1; done'")
	if got := g.sh("systemctl is-active tridentd.socket; systemctl show -P Result tridentd.service; journalctl --no-pager -o cat -u tridentd.service"); !strings.HasPrefix(got, "active\nsuccess\n") || !strings.Contains(got, "nobody needs the daemon") {
		t.Errorf("after the idle time: %s", got)
	}
	if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, base) {
		t.Errorf("trident version: %d, %q, %q", code, out, errs)
	}
	if v, err := g.api.Version(t.Context()); v != base || err != nil {
		t.Error(v, err)
	}
	if second := g.sh(mainPID); second == "0" || second == first {
		t.Errorf("process %s answers after %s", second, first)
	}
}

func TestADownloadResumesAfterTheDaemonIsKilledAndTheNewVersionSurvivesAReboot(t *testing.T) {
	t.Parallel()
	g := start(t)
	server := g.serve(goodImage, true)
	server.holdAt = 20 << 20
	events := &follower{}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		_, err := g.api.Upgrade(ctx, client.Source{URL: server.url}, untimedTrial(2*time.Second), events.event)
		ended <- err
	}()
	select {
	case <-server.held:
	case err := <-ended:
		t.Fatalf("the upgrade has ended: %v", err)
	case <-time.After(3 * time.Minute):
		t.Fatalf("the server has sent %d bytes only", server.bytesSent())
	}
	g.sh("systemctl kill --signal KILL --kill-whom main tridentd.service")
	close(server.release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// What was on its way when the daemon was killed is sent again.
	if most := len(server.data) + 12<<20; server.bytesSent() > most {
		t.Errorf("the server has sent %d bytes of an image of %d", server.bytesSent(), len(server.data))
	}
	events.complete(t)
	if got := g.sh("journalctl --no-pager -o cat -u tridentd.service"); !strings.Contains(got, "status=9/KILL") || strings.Contains(got, "begun again from the first byte") {
		t.Errorf("journal: %s", got)
	}
	g.checkVersion(good)
	g.checkVerity(goodImage)
	g.checkReportedVersion(good)

	boot := g.sh("cat /proc/sys/kernel/random/boot_id")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := g.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitBoot(ctx); err != nil {
		t.Fatal(err)
	}
	if got := g.sh("cat /proc/sys/kernel/random/boot_id; systemctl is-active tridentd.socket; ls /etc/systemd/system/trident* 2>/dev/null || true"); strings.HasPrefix(got, boot) || !strings.HasSuffix(got, "\nactive") {
		t.Errorf("after the reboot: %q, before it boot %s", got, boot)
	}
	if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, good) {
		t.Errorf("trident version: %d, %q, %q", code, out, errs)
	}
	g.checkVersion(good)
	g.checkVerity(goodImage)
	g.checkReportedVersion(good)
}

// checkVerity checks that the kernel reads the image through dm-verity, with the root hash
// of the image on this machine.
func (g *guest) checkVerity(name string) {
	g.t.Helper()
	f, err := os.Open(filepath.Join(g.f.dir, name))
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		g.t.Fatal(err)
	}
	image, err := ddi.Open(f, fi.Size())
	if err != nil {
		g.t.Fatal(err)
	}
	root := ddi.HashString(image.RootHash())
	got := g.sh("dmsetup table " + root + "-verity; dmsetup status " + root + "-verity")
	if fields := strings.Fields(got); len(fields) < 12 || fields[2] != "verity" || fields[11] != root || !strings.HasSuffix(got, "verity V") {
		g.t.Errorf("verity table and status %q, want root hash %s, valid", got, root)
	}
}

// checkReportedVersion checks the version that trident self status prints.
func (g *guest) checkReportedVersion(version string) {
	g.t.Helper()
	out, errs, code := g.trident("self", "status")
	words := strings.Join(strings.Fields(out), " ")
	if code != 0 || !strings.Contains(words, "Running "+version+", from the extension Base 1.0.0 Active "+version+", merged, read through dm-verity") {
		g.t.Errorf("trident self status: %d\n%s%s", code, out, errs)
	}
}

func TestAnUploadedAndAStagedVersionAreRolledBackByCommand(t *testing.T) {
	t.Parallel()
	g := start(t)
	out, errs, code := g.trident("self", "upgrade", filepath.Join(g.f.dir, goodImage), "--soak", "2s", "--deadline", "5m", "--allow-read-only-usr")
	if code != 0 || out != "Trident 2.0.0 runs now.\n" {
		t.Fatalf("trident self upgrade FILE: %d, %q\n%s", code, out, errs)
	}
	inOrder(t, errs, "fetch\n", "verify\n", "probe\n", "arm rescue\n", "activate\n", "restart\n", "Trident restarts; watching again\n",
		"Trident 2.0.0 answers\n", "prove\n", "trident 2.0.0 runs; its soak takes 2s\n", "settle\n", "trident 2.0.0 is kept\n")
	g.checkVersion(good)

	// The server breaks the first answer off and serves no ranges.
	server := g.serve(good2Image, false)
	server.holdAt, server.breaksOff = 20<<20, true
	close(server.release)
	out, errs, code = g.trident("self", "stage", server.url)
	if code != 0 || out != "Done: stage trident from "+server.url+".\n" {
		t.Fatalf("trident self stage URL: %d, %q\n%s", code, out, errs)
	}
	inOrder(t, errs, "fetch\n", "next try at byte", "begun again from the first byte", "the server does not serve ranges", "verify\n", "probe\n")
	resumed := false
	for len(server.requests) > 0 {
		h := server.nextRequest()
		resumed = resumed || h.Get("Range") != "" && h.Get("If-Range") == server.etag
	}
	if !resumed {
		t.Error("no request asked for the rest of the same image")
	}
	g.checkVersion(good)
	if out, _, _ := g.trident("self", "status"); !strings.Contains(out, "\n2.1.0 ") || !strings.Contains(out, "staged\n") {
		t.Errorf("trident self status:\n%s", out)
	}

	out, errs, code = g.trident("self", "activate", "--soak", "2s", "--deadline", "5m", "--allow-read-only-usr")
	if code != 0 || out != "Trident 2.1.0 runs now.\n" || strings.Contains(errs, "fetch") {
		t.Fatalf("trident self activate: %d, %q\n%s", code, out, errs)
	}
	g.checkVersion(good2)
	g.checkVerity(good2Image)

	for _, version := range []string{good, base} {
		out, errs, code = g.trident("self", "rollback", "--soak", "2s", "--deadline", "5m")
		if code != 0 || out != "Trident "+version+" runs now.\n" {
			t.Fatalf("trident self rollback: %d, %q\n%s", code, out, errs)
		}
		g.checkVersion(version)
		if version == good {
			g.checkVerity(goodImage)
		}
	}
	if got := g.sh("dmsetup ls --target verity; losetup --list --noheadings; ls /var/lib/extensions"); got != "No devices found" {
		t.Errorf("left after the return to the base: %q", got)
	}
	out, errs, code = g.trident("self", "rollback")
	if code != 2 || !strings.Contains(errs, "there is nothing to return to: no extension of trident is active") {
		t.Errorf("rollback from the base: %d, %q, %q", code, out, errs)
	}
}

// inOrder checks that text has all the parts, one after the other.
func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%q is missing, or comes too early, in:\n%s", part, text)
			return
		}
		rest = after
	}
}
