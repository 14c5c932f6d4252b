//go:build vm

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// forwards and backwards are the moments of an update whose new system is not healthy.
func forwards() []cut {
	return doing("image", "partition", "write", "configure", "seal", "boot files", "stage", "finalize", "try", "reboot", "unlock", "health")
}

func backwards() []cut {
	return undoing("reboot", "try", "finalize", "stage", "boot files", "seal", "partition", "begin")
}

// withCheck adds to a configuration the check that a faulty image fails.
func withCheck(config string, seconds int) string {
	return config + fmt.Sprintf("health: {checks: [{name: healthy, systemdServices: [%s], timeoutSeconds: %d, runOn: [ab-update]}]}\n", osimage.HealthUnit, seconds)
}

// updateIsUndone updates to a system that is not healthy, cuts the power in a third of the
// steps forwards and backwards, and then updates to a good system. config is the configuration of an
// image, and check checks that a system runs with all its devices.
func (g *guest) updateIsUndone(old, bad, good osimage.Image, config func(hostedImage) string, check func(osimage.Image)) {
	g.t.Helper()
	lap := stopwatch(g.t)
	s := g.sweepUpdate(old, bad, func(i hostedImage) string { return withCheck(config(i), 5) }, good)
	s.cutEach(append(cutsOfLanding(g.t, forwards()), cutsOfLanding(g.t, backwards())...))
	op := s.resume()
	lap(fmt.Sprintf("settled: %v", op.Phase))
	if op.Phase != operationsv1.Phase_PHASE_UNDONE {
		g.t.Fatalf("the update has ended %v", op)
	}
	check(old)
	if out, errs, code := g.trident("get", "last-error"); code != 0 || strings.TrimSpace(out) == "null" {
		g.t.Errorf("get last-error: %d, %s%s", code, out, errs)
	}

	images := g.serveImages(old, good)
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(withCheck(config(images[1]), 120))); said.code != 0 {
		g.t.Fatalf("the next update: %+v", said)
	}
	g.awaitSettled()
	lap("the next update")
	check(good)
}

// byBoot returns a Host Configuration with encrypted volumes that the TPM opens for what the
// firmware has started, and for its keys of Secure Boot.
func (i hostedImage) byBoot() string {
	return strings.Replace(i.sealed(), "pcrs: [11]", "pcrs: [4, 7]", 1)
}

func TestAnEncryptedUpdateIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuestOn(t, lab.Options{TPM: true, SecureBoot: true, Disks: []int64{5 << 10}})
	old := buildSystem(t, osimage.Spec{Version: "1.0.0", Signed: true})
	g.sh("umask 077; printf %s '" + recoveryKey + "' >/root/recovery.key")
	lap("live system")
	g.installAs(g.serveImages(old)[0].byBoot())
	lap("installed")
	g.checkUnlocked("after the installation")
	// The first boot has bound the volumes to register 4.
	const tokens = "cryptsetup luksDump --dump-json-metadata /dev/disk/by-partlabel/locked-data | tr -d ' \\n' | grep -o '\"tpm2-pcrs\":[^]]*]' | sort -u"
	if got := g.sh(tokens); got != `"tpm2-pcrs":[4,7]` {
		t.Errorf("the tokens of the volume have %q", got)
	}
	const secure = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	if got := g.sh("tail -c 1 " + secure + " | od -An -tu1"); strings.TrimSpace(got) != "1" {
		t.Errorf("the variable SecureBoot is %q", got)
	}
	good, bad := buildSystem(t, osimage.Spec{Version: "2.0.0", Signed: true}), buildSystem(t, osimage.Spec{Version: "4.0.0", Signed: true, Fault: osimage.Unhealthy})
	g.updateIsUndone(old, bad, good, hostedImage.byBoot, func(img osimage.Image) {
		t.Helper()
		g.checkBooted(img)
		g.checkUnlocked("in " + img.UKI)
	})
	if got := g.sh(tokens); got != `"tpm2-pcrs":[4,7]` {
		t.Errorf("after the updates the tokens of the volume have %q", got)
	}

	// Register 4 changes as if the firmware had started another program.
	g.sh("umount /data; systemctl stop systemd-cryptsetup@data.service")
	const attach = "systemd-cryptsetup attach data /dev/disk/by-partlabel/locked-data none luks,tpm2-device=auto,headless=true && echo open || echo shut"
	if got := g.sh(attach); got != "open" {
		t.Errorf("before a register has changed the volume is %s", got)
	}
	g.sh("systemd-cryptsetup detach data; /usr/lib/systemd/systemd-pcrextend --pcr=4 changed")
	if got := g.sh(attach); got != "shut" {
		t.Errorf("after register 4 has changed the volume is %s", got)
	}
	lap("registers changed")
}

// The image boots by GRUB and has a verified root.
func TestAVerifiedUpdateByGRUBIsUndoneDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	old, good := buildSystem(t, osimage.Spec{Version: "1.0.0", Grub: true, VerityRoot: true}), buildSystem(t, osimage.Spec{Version: "2.0.0", Grub: true, VerityRoot: true})
	bad := buildSystem(t, osimage.Spec{Version: "4.0.0", Grub: true, VerityRoot: true, Fault: osimage.Unhealthy})
	lap("live system and images")
	g.installAs(g.serveImages(old)[0].verifiedRoot())
	lap("installed")
	g.updateIsUndone(old, bad, good, hostedImage.verifiedRoot, g.checkVerifiedRoot)
}

// sweepRebuild is a rebuild of a machine that runs an image from slot A.
func (g *guest) sweepRebuild(img osimage.Image) *sweep {
	g.t.Helper()
	g.sh("systemctl disable -q " + goesOn + " && sync")
	return &sweep{
		guest: g, images: []osimage.Image{img},
		begin: func(ctx context.Context, fn func(*client.Event)) error {
			_, err := g.api.Host().RebuildRaid(ctx, fn)
			return err
		},
		truth: func(st recorded, root string) string {
			if st.State != "provisioned" || st.Volume != "volume-a" || st.Spec.Image.SHA384 != img.SHA384 || root != img.RootUUID {
				return "the host is said to be another"
			}
			return ""
		},
	}
}

func TestMirroredDisksAreInstalledAndRebuiltDespitePowerCuts(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuestOn(t, lab.Options{Disks: []int64{4 << 10, 4 << 10}})
	img := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	lap("live system and image")
	install := g.sweepInstall(img, hostedImage.mirrored)
	install.cutEach(cutsOfLanding(t, doing("partition", "write", "configure", "boot files", "try", "health")))
	op := install.resume()
	lap(fmt.Sprintf("installation settled: %v", op.Phase))
	if op.Phase != operationsv1.Phase_PHASE_DONE {
		t.Fatalf("the installation has ended %v", op)
	}
	g.checkBooted(img)
	t.Log(g.sh("cat /proc/mdstat"))
	if got := g.degraded(); got != "0" {
		t.Errorf("%s arrays are degraded after the installation", got)
	}

	g.off()
	if err := g.Replace(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g.bootInstalled()
	g.redial()
	lap("booted with an empty second disk")
	rebuild := g.sweepRebuild(img)
	rebuild.cutEach(cutsOfLanding(t, doing("partition", "add", "sync", "boot entries", "record")))
	op = rebuild.resume()
	lap(fmt.Sprintf("rebuild settled: %v", op.Phase))
	if op.Phase != operationsv1.Phase_PHASE_DONE {
		t.Fatalf("the rebuild has ended %v", op)
	}
	if got := g.degraded(); got != "0" {
		t.Errorf("%s arrays are degraded after the rebuild", got)
	}
	t.Log(g.sh("cat /proc/mdstat; efibootmgr"))

	g.off()
	if err := g.Unplug(0); err != nil {
		t.Fatal(err)
	}
	g.bootInstalled()
	lap("booted without the first disk")
	g.checkBooted(img)
}
