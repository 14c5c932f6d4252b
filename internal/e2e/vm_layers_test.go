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

// sealed returns a Host Configuration with an encrypted volume for /data and encrypted swap,
// which the TPM opens while register 11 has the value of the kernel image.
func (i hostedImage) sealed() string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 256M}
    - {id: root-a, type: root, size: 1536M}
    - {id: root-b, type: root, size: 1536M}
    - {id: locked-data, type: linux-generic, size: 128M}
    - {id: locked-swap, type: swap, size: 128M}
    - {id: trident, type: linux-generic, size: grow}
  encryption:
    recoveryKeyUrl: file:///root/recovery.key
    pcrs: [11]
    volumes:
    - {id: data, deviceName: data, deviceId: locked-data}
    - {id: swap, deviceName: swap, deviceId: locked-swap}
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  swap: [swap]
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
  - {deviceId: data, source: new, mountPoint: /data}
os: {hostname: lab-installed}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384)
}

const recoveryKey = "a recovery key of the test"

// checkUnlocked checks that the volumes are open, without anybody at the console.
func (g *guest) checkUnlocked(when string) {
	g.t.Helper()
	if got := g.sh("findmnt -no SOURCE /data; swapon --noheadings --show=NAME"); got != "/dev/mapper/data\n/dev/dm-0" && got != "/dev/mapper/data\n/dev/dm-1" {
		g.t.Errorf("%s: the volumes are %q", when, got)
	}
}

func TestEncryptedVolumesOpenByTheTPMInEitherSlotAndByTheRecoveryKey(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuestOn(t, lab.Options{TPM: true, Disks: []int64{5 << 10}})
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"}))
	g.sh("umask 077; printf %s '" + recoveryKey + "' >/root/recovery.key")
	lap("live system")
	g.installAs(images[0].sealed())
	lap("installed")
	g.checkUnlocked("after the installation")
	g.sh("echo kept >/data/file; sync")
	t.Log(g.sh("cat /etc/crypttab /etc/fstab; cryptsetup luksDump /dev/disk/by-partlabel/locked-data | sed -n '/Tokens/,$p'"))

	images = g.serveImages(images[0].Image, images[1].Image)
	update := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].sealed()))
	if update.code != 0 {
		t.Fatalf("update: %+v", update)
	}
	g.awaitSettled()
	lap("updated")
	g.checkBooted(images[1].Image)
	g.checkUnlocked("after the update")
	if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code != 0 {
		t.Fatalf("rollback: %+v", back)
	}
	g.awaitSettled()
	lap("rolled back")
	g.checkBooted(images[0].Image)
	g.checkUnlocked("after the rollback")
	if got := g.sh("cat /data/file"); got != "kept" {
		t.Errorf("the file on the volume has %q", got)
	}

	// Register 11 changes as if another kernel had booted.
	g.sh("umount /data; systemctl stop systemd-cryptsetup@data.service; /usr/lib/systemd/systemd-pcrextend --graceful --pcr=11 changed || /usr/lib/systemd/systemd-pcrextend changed")
	const attach = "systemd-cryptsetup attach data /dev/disk/by-partlabel/locked-data "
	if got := g.sh(attach + "none luks,tpm2-device=auto,headless=true && echo open || echo shut"); got != "shut" {
		t.Errorf("after register 11 has changed the volume is %s", got)
	}
	g.sh("printf %s '" + recoveryKey + "' | cryptsetup open --key-file=- /dev/disk/by-partlabel/locked-data data && mount /dev/mapper/data /data && grep kept /data/file")

	// The key is nowhere but in the volumes.
	if got := g.sh("grep -rlF '" + recoveryKey + "' /var/lib/trident /var/log /run/log /etc 2>/dev/null || true; journalctl | grep -cF '" + recoveryKey + "' || true"); got != "0" {
		t.Errorf("the recovery key is in %s", got)
	}
}

func TestAHostThatBootsByGRUBIsInstalledUpdatedAndFallsBack(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0", Grub: true}),
		buildSystem(t, osimage.Spec{Version: "2.0.0", Grub: true}), buildSystem(t, osimage.Spec{Version: "3.0.0", Grub: true, Fault: osimage.DoesNotBoot}))
	lap("live system and images")
	g.installAs(images[0].config(""))
	lap("installed")
	g.checkOS(images[0], "volume-a")
	t.Log(g.sh("cat /proc/cmdline; efibootmgr; find /boot/efi -type f; cat /boot/efi/EFI/AZLA/grub.cfg"))

	again := func() []hostedImage { return g.serveImages(images[0].Image, images[1].Image, images[2].Image) }
	again()
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].config(""))); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("updated")
	g.checkOS(images[1], "volume-b")

	again()
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[2].config(""))); said.code == 0 {
		t.Errorf("an update that does not boot: %+v", said)
	}
	g.awaitSettled()
	lap("fallen back")
	g.checkOS(images[1], "volume-b")

	again()
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[0].config(""))); said.code != 0 {
		t.Fatalf("another update: %+v", said)
	}
	g.awaitSettled()
	if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code != 0 {
		t.Fatalf("rollback: %+v", back)
	}
	g.awaitSettled()
	lap("updated and rolled back")
	g.checkOS(images[1], "volume-b")
}

// verified returns a Host Configuration for an image with a verified /usr.
func (i hostedImage) verified() string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 384M}
    - {id: root-a, type: root, size: 512M}
    - {id: root-b, type: root, size: 512M}
    - {id: usr-a, type: usr, size: 1280M}
    - {id: usr-b, type: usr, size: 1280M}
    - {id: hash-a, type: usr-verity, size: 32M}
    - {id: hash-b, type: usr-verity, size: 32M}
    - {id: trident, type: linux-generic, size: grow}
  abUpdate:
    volumePairs:
    - {id: root, volumeAId: root-a, volumeBId: root-b}
    - {id: usr-data, volumeAId: usr-a, volumeBId: usr-b}
    - {id: usr-hash, volumeAId: hash-a, volumeBId: hash-b}
  verity: [{id: usr, name: usr, dataDeviceId: usr-data, hashDeviceId: usr-hash, corruptionOption: panic}]
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: usr, mountPoint: {path: /usr, options: ro}}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os: {hostname: lab-installed}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384)
}

func TestAVerifiedUsrIsUpdatedAndAChangedByteIsFound(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0", Verity: true}), buildSystem(t, osimage.Spec{Version: "2.0.0", Verity: true}))
	lap("live system and images")
	g.installAs(images[0].verified())
	lap("installed")
	g.checkBooted(images[0].Image)
	const opened = "dmsetup table --target verity | cut -d ' ' -f 1,4; findmnt -no SOURCE,OPTIONS /usr"
	if got := g.sh(opened); !strings.Contains(got, "usr: verity") || !strings.Contains(got, "/dev/mapper/usr ro") {
		t.Errorf("/usr is %q", got)
	}

	// A byte of the idle slot changes between staging and finalizing.
	images = g.serveImages(images[0].Image, images[1].Image)
	if out, errs, code := g.trident("update", g.file(images[1].verified()), "--allowed-operations", "stage"); code != 0 {
		t.Fatalf("stage: %d: %s%s", code, out, errs)
	}
	lap("staged")
	g.sh("printf x | dd of=/dev/disk/by-partlabel/usr-b bs=1 seek=20M conv=notrunc,fsync oflag=seek_bytes status=none")
	if out, errs, code := g.trident("update", g.file(images[1].verified()), "--allowed-operations", "finalize"); code == 0 || !strings.Contains(errs, "does not match its hash") {
		t.Errorf("finalize with a changed byte: %d: %s%s", code, out, errs)
	}
	lap("refused")
	g.checkBooted(images[0].Image)

	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].verified())); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("updated")
	g.checkBooted(images[1].Image)
	if got := g.sh(opened); !strings.Contains(got, "usr: verity") {
		t.Errorf("/usr is %q", got)
	}

	// A byte of the old slot changes before the rollback: the kernel panics in the trial, and
	// the new system boots again.
	g.sh("for at in $(seq 4 8 200); do printf x | dd of=/dev/disk/by-partlabel/usr-a bs=1 seek=${at}M conv=notrunc,fsync oflag=seek_bytes status=none; done")
	if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code == 0 {
		t.Errorf("rollback to a changed system: %+v", back)
	}
	g.awaitSettled()
	lap("fallen back")
	g.checkBooted(images[1].Image)
}

// verifiedRoot returns a Host Configuration for an image with a verified root.
func (i hostedImage) verifiedRoot() string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 256M}
    - {id: root-a, type: root, size: 1536M}
    - {id: root-b, type: root, size: 1536M}
    - {id: hash-a, type: root-verity, size: 32M}
    - {id: hash-b, type: root-verity, size: 32M}
    - {id: boot-a, type: xbootldr, size: 160M}
    - {id: boot-b, type: xbootldr, size: 160M}
    - {id: overlay-a, type: linux-generic, size: 64M}
    - {id: overlay-b, type: linux-generic, size: 64M}
    - {id: trident, type: linux-generic, size: grow}
  abUpdate:
    volumePairs:
    - {id: root-data, volumeAId: root-a, volumeBId: root-b}
    - {id: root-hash, volumeAId: hash-a, volumeBId: hash-b}
    - {id: boot, volumeAId: boot-a, volumeBId: boot-b}
    - {id: overlay, volumeAId: overlay-a, volumeBId: overlay-b}
  verity: [{id: root, name: root, dataDeviceId: root-data, hashDeviceId: root-hash, corruptionOption: panic}]
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: {path: /, options: ro}}
  - {deviceId: boot, mountPoint: /boot}
  - {source: new, type: tmpfs, mountPoint: /var/tmp}
  - {deviceId: overlay, source: new, mountPoint: /var/lib/trident-overlay}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os: {hostname: lab-installed}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384)
}

// checkVerifiedRoot checks that the root of this image has booted, verified, with the
// settings of Trident in an overlay on /etc.
func (g *guest) checkVerifiedRoot(img osimage.Image) {
	g.t.Helper()
	g.checkBooted(img)
	want := "root: verity\n/dev/mapper/root ext4 ro\noverlay overlay\nlab-installed"
	got := g.sh("dmsetup table --target verity | cut -d ' ' -f 1,4; findmnt -no SOURCE,FSTYPE,OPTIONS / | cut -d , -f 1; findmnt -no SOURCE,FSTYPE /etc; cat /etc/hostname")
	if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		g.t.Errorf("the root is\n%s\nwant\n%s\nand the kernel has the arguments %s", got, want, g.sh("cat /proc/cmdline"))
	}
	if got := g.sh("ls /etc/systemd/system/trident-trial* 2>/dev/null || true; findmnt -no OPTIONS /etc | cut -d , -f 1"); got != "ro" {
		g.t.Errorf("after the trial /etc has %q", got)
	}
}

func TestAVerifiedRootIsUpdatedAndAChangedByteIsFound(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	images := g.serveImages(buildSystem(t, osimage.Spec{Version: "1.0.0", Grub: true, VerityRoot: true}),
		buildSystem(t, osimage.Spec{Version: "2.0.0", Grub: true, VerityRoot: true}))
	lap("live system and images")
	g.installAs(images[0].verifiedRoot())
	lap("installed")
	g.checkVerifiedRoot(images[0].Image)

	// A byte of the idle slot changes between staging and finalizing.
	images = g.serveImages(images[0].Image, images[1].Image)
	if out, errs, code := g.trident("update", g.file(images[1].verifiedRoot()), "--allowed-operations", "stage"); code != 0 {
		t.Fatalf("stage: %d: %s%s", code, out, errs)
	}
	lap("staged")
	g.sh("printf x | dd of=/dev/disk/by-partlabel/root-b bs=1 seek=20M conv=notrunc,fsync oflag=seek_bytes status=none")
	if out, errs, code := g.trident("update", g.file(images[1].verifiedRoot()), "--allowed-operations", "finalize"); code == 0 || !strings.Contains(errs, "does not match its hash") {
		t.Errorf("finalize with a changed byte: %d: %s%s", code, out, errs)
	}
	lap("refused")
	g.checkVerifiedRoot(images[0].Image)

	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(images[1].verifiedRoot())); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("updated")
	g.checkVerifiedRoot(images[1].Image)

	// Bytes of the old slot change before the rollback: the kernel panics in the trial, and the
	// new system boots again.
	g.sh("for at in $(seq 4 8 200); do printf x | dd of=/dev/disk/by-partlabel/root-a bs=1 seek=${at}M conv=notrunc,fsync oflag=seek_bytes status=none; done")
	if back := g.runAcrossReboots(g.BootAgain, "rollback"); back.code == 0 {
		t.Errorf("rollback to a changed system: %+v", back)
	}
	g.awaitSettled()
	lap("fallen back")
	g.checkVerifiedRoot(images[1].Image)
}
