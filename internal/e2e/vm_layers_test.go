//go:build vm

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
)

// liveGuestOn boots a live system with these disks, and installs the package in it. Unlike
// liveGuest, which loads a saved guest, it pays for a boot.
func liveGuestOn(t *testing.T, opts lab.Options) *guest {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Image(t.Context(), lab.Trixie())
	if err != nil {
		t.Fatal(err)
	}
	opts.UEFI, opts.Share = true, f.dir
	vm, err := lab.Boot(t.Context(), b, opts)
	if err != nil {
		t.Fatal(err)
	}
	g := drive(t, &f.fixture, vm)
	if err := vm.WaitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.sh(installScript)
	return g
}

// off shuts the guest down and waits until it is off.
func (g *guest) off() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 3*time.Minute)
	defer cancel()
	_, _ = g.Run(ctx, "systemctl --no-block poweroff", nil) // the connection may end first
	if err := g.WaitOff(ctx); err != nil {
		g.t.Fatal(err)
	}
}

// bootInstalled boots the installed system and waits until no operation is pending.
func (g *guest) bootInstalled() {
	g.t.Helper()
	if err := g.BootInstalled(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.awaitSettled()
}

// installAs installs with a configuration that the test has written.
func (g *guest) installAs(config string) {
	g.t.Helper()
	g.sh("touch /override-trident-safety-check")
	said := g.runAcrossReboots(g.BootInstalled, "install", g.file(config))
	if said.code != 0 {
		g.t.Fatalf("install: %+v", said)
	}
	g.t.Log(said.out + said.errs)
	g.awaitSettled()
}

// mirrored returns a Host Configuration with all file systems on mirrors over two disks.
func (i hostedImage) mirrored() string {
	var disks, arrays strings.Builder
	for n := range 2 {
		fmt.Fprintf(&disks, `
  - id: disk%[1]d
    device: /dev/disk/by-id/virtio-disk%[1]d
    partitionTableType: gpt
    partitions:
    - {id: esp-%[1]d, type: esp, size: 256M}
    - {id: root-a-%[1]d, type: root, size: 1536M}
    - {id: root-b-%[1]d, type: root, size: 1536M}
    - {id: trident-%[1]d, type: linux-generic, size: 256M}`, n)
	}
	for _, id := range []string{"esp", "root-a", "root-b", "trident"} {
		fmt.Fprintf(&arrays, "\n    - {id: %[1]s, name: %[1]s, level: raid1, devices: [%[1]s-0, %[1]s-1]}", id)
	}
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:%s
  raid:
    software:%s
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os: {hostname: lab-installed}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384, disks.String(), arrays.String())
}

// degraded returns the names of the arrays that lack a member, in one line.
func (g *guest) degraded() string {
	return g.sh(`for a in /sys/block/md*/md; do [ "$(cat $a/degraded)" = 0 ] || echo ${a%/md}; done | wc -l`)
}

func TestAHostOnMirroredDisksBootsFromEitherAndIsRebuilt(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuestOn(t, lab.Options{Disks: []int64{4 << 10, 4 << 10}})
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}))
	lap("live system")
	g.installAs(images[0].mirrored())
	lap("installed")
	g.checkBooted(images[0].Image)
	t.Log(g.sh("cat /proc/mdstat /etc/fstab /etc/mdadm/mdadm.conf; lsblk; efibootmgr"))
	if got := g.degraded(); got != "0" {
		t.Errorf("%s arrays are degraded after the installation", got)
	}

	g.off()
	if err := g.Unplug(1); err != nil {
		t.Fatal(err)
	}
	g.bootInstalled()
	lap("booted without the second disk")
	if got := g.degraded(); got != "4" {
		t.Errorf("%s arrays are degraded without a disk", got)
	}
	out, errs, code := g.trident("rebuild-raid")
	if code == 0 {
		t.Errorf("rebuild-raid without the second disk: %s%s", out, errs)
	}

	g.off()
	if err := g.Replace(g.t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g.bootInstalled()
	lap("booted with an empty second disk")
	if out, errs, code := g.trident("rebuild-raid"); code != 0 {
		t.Fatalf("rebuild-raid: %d: %s%s", code, out, errs)
	}
	lap("rebuilt")
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
	g.checkBooted(images[0].Image)
}
