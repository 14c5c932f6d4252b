//go:build vm

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/osimage"
)

// separateBoot returns a Host Configuration for an image with /boot in a file system of its own,
// and with GRUB under its usual name.
func (i hostedImage) separateBoot() string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 256M}
    - {id: boot-a, type: xbootldr, size: 160M}
    - {id: boot-b, type: xbootldr, size: 160M}
    - {id: root-a, type: root, size: 1536M}
    - {id: root-b, type: root, size: 1536M}
    - {id: trident, type: linux-generic, size: grow}
  abUpdate:
    volumePairs:
    - {id: boot, volumeAId: boot-a, volumeBId: boot-b}
    - {id: root, volumeAId: root-a, volumeBId: root-b}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: boot, mountPoint: /boot}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os:
  hostname: lab-installed
  kernelCommandLine: {extraCommandLine: [lab.extra=yes]}
internalParams: {trialTime: 4min, disableGrubNoprefixCheck: true}
`, i.url, i.SHA384)
}

// checkEntry checks which image and slot run, and that the kernel got the arguments of grubenv
// and of the configuration.
func (g *guest) checkEntry(img hostedImage, slot string) {
	g.t.Helper()
	g.checkBooted(img.Image)
	if got := g.sh("lsblk -no PARTLABEL $(findmnt -no SOURCE /boot) $(findmnt -no SOURCE /); ls /boot/loader/entries | wc -l"); strings.Join(strings.Fields(got), " ") != "boot-"+slot+" root-"+slot+" 3" {
		g.t.Errorf("/boot and the root are %q, want those of slot %s", got, slot)
	}
	args := strings.Fields(g.sh("cat /proc/cmdline"))
	if len(args) < 3 || args[len(args)-1] != "lab.extra=yes" || !strings.HasPrefix(args[len(args)-2], "root=PARTUUID=") || args[len(args)-3] != "lab.bls=1" {
		g.t.Errorf("the kernel has the arguments %q", args)
	}
	if st := g.status(); !strings.Contains(st, "servicingState: provisioned") || !strings.Contains(st, "abActiveVolume: volume-"+slot) {
		g.t.Errorf("the status is\n%s", st)
	}
}

func TestAHostWithEntriesOfTheBootLoaderSpecificationIsUpdatedAndFallsBack(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	build := func(version string, fault osimage.Fault) osimage.Image {
		return buildSystem(t, osimage.Spec{Version: version, Grub: true, BLS: true, Fault: fault})
	}
	images := g.serveImages(build("1.0.0", ""), build("2.0.0", ""), build("3.0.0", osimage.DoesNotBoot))
	lap("live system and images")
	g.installAs(images[0].separateBoot())
	lap("installed")
	g.checkEntry(images[0], "a")
	t.Log(g.sh("cat /proc/cmdline; efibootmgr; find /boot -type f; cat /boot/efi/EFI/AZLA/grub.cfg"))

	update := func(to hostedImage) commandResult {
		t.Helper()
		g.serveImages(images[0].Image, images[1].Image, images[2].Image)
		said := g.runAcrossReboots(g.BootAgain, "update", g.file(to.separateBoot()))
		g.awaitSettled()
		return said
	}
	if said := update(images[1]); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	lap("updated")
	g.checkEntry(images[1], "b")
	if said := g.runAcrossReboots(g.BootAgain, "rollback"); said.code != 0 {
		t.Fatalf("rollback: %+v", said)
	}
	g.awaitSettled()
	lap("rolled back")
	g.checkEntry(images[0], "a")

	if said := update(images[2]); said.code == 0 || !strings.Contains(said.errs, "did not boot") {
		t.Errorf("an update that panics: %+v", said)
	}
	lap("fallen back")
	g.checkEntry(images[0], "a")
}
