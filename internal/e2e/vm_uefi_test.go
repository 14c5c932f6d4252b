//go:build vm

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
)

// selected is the entry that systemd-boot booted.
const selected = `cat /sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f | tail -c +5 | tr -d '\0'`

func TestALiveSystemHasFirmwareAndAnEmptyDisk(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	lap("packages, boot and load")
	if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, base) {
		t.Errorf("trident version: %d, %s%s", code, out, errs)
	}
	const file = "/sys/firmware/efi/efivars/LabTest-6e0a4f6c-2d35-4b39-9d3f-0d8a3e3f5c11"
	g.sh(`printf '\007\000\000\000here' >` + file)
	if got := g.sh("cat " + file + " | tail -c +5; chattr -i " + file + "; rm " + file + "; findmnt -n -o FSTYPE /sys/firmware/efi/efivars"); got != "hereefivarfs" {
		t.Errorf("variables: %q", got)
	}
	if got := g.sh("lsblk -n -b -o SIZE,TYPE,FSTYPE /dev/disk/by-id/virtio-disk0"); strings.Join(strings.Fields(got), " ") != "5368709120 disk" {
		t.Errorf("the disk is %q", got)
	}
	lap("looked at")
}

func TestADebianImageBootsFromFirmware(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	first := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	lap("packages and the first image")
	disk := writeDisk(t, hole{"esp", 64, contentOf(t, first, "/boot/efi")}, hole{"root", 1024, contentOf(t, first, "/")})
	lap("disk written by hand")
	g := newMachine(t, lab.Options{Image: disk})
	if err := g.BootInstalled(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot by firmware to SSH")
	if err := g.WaitBoot(t.Context()); err != nil {
		t.Error(err)
	}
	lap("all is started")
	for command, want := range map[string]string{
		"findmnt -n -o UUID /":  first.RootUUID,
		selected:                first.UKI,
		"cat " + osimage.Marker: "1.0.0",
		"systemctl is-active " + osimage.HealthUnit: "active",
		"systemctl is-enabled tridentd.socket":      "enabled",
		"systemctl is-enabled tridentd-resume.path": "enabled",
		"systemctl is-enabled trident.service":      "enabled",
		". /etc/os-release; echo $IMAGE_VERSION":    "1.0.0",
	} {
		if got := g.sh(command); got != want {
			t.Errorf("%s says %q, want %q", command, got, want)
		}
	}
	if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, base) {
		t.Errorf("trident version: %d, %s%s", code, out, errs)
	}
	lap("looked at")
	t.Log(g.sh("systemd-analyze | head -1; df -h / | tail -1; systemctl --failed --no-legend"))
}

func TestAFaultyImageBootsAndShowsItsFault(t *testing.T) {
	t.Parallel()
	for fault, command := range map[osimage.Fault]string{
		osimage.Unhealthy:     "! systemctl is-active --quiet " + osimage.HealthUnit + " && systemctl is-enabled " + osimage.HealthUnit,
		osimage.TridentBroken: "systemctl is-active " + osimage.HealthUnit + " && systemctl is-failed trident.service",
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			lap := stopwatch(t)
			img := buildSystem(t, osimage.Spec{Version: "4.0.0", Fault: fault})
			g := newMachine(t, lab.Options{Image: writeDisk(t, hole{"esp", 64, contentOf(t, img, "/boot/efi")}, hole{"root", 1024, contentOf(t, img, "/")})})
			lap("image and disk")
			if err := g.BootInstalled(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.WaitBoot(t.Context()); err == nil {
				t.Error("all is well")
			}
			g.checkBooted(img)
			g.sh(command)
			lap("booted and looked at")
		})
	}
}

// boots is the output of the program booter.
type boots struct{ A, B, Staged, Booted, Next, Default string }

// runBooter runs a command of the program booter on the disk of the machine.
func (g *guest) runBooter(do string) (b boots) {
	g.t.Helper()
	out := g.sh("/var/tmp/booter -esp /tmp/esp -disk /dev/disk/by-id/virtio-image " + do)
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		g.t.Fatal(err, out)
	}
	return b
}

// mountESP mounts the ESP of the disk, and copies the program booter to the guest.
func (g *guest) mountESP() {
	g.t.Helper()
	program, err := g.f.maker.Daemon(g.t.Context(), "./internal/e2e/booter", "booter")
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := os.Open(program)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	if err := g.Put(g.t.Context(), "/var/tmp/booter", f, 0o755); err != nil {
		g.t.Fatal(err)
	}
	g.sh("udevadm settle; mkdir -p /tmp/esp && mount /dev/disk/by-id/virtio-image-part1 /tmp/esp")
}

// stage stages the boot files on the ESP of an image.
func (g *guest) stage(img osimage.Image, slot string) boots {
	g.t.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(contentOf(g.t, img, "/boot/efi")(w)) }()
	if err := g.Put(g.t.Context(), "/var/tmp/esp.img", r, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.sh("mkdir -p /tmp/image && mount -o ro,loop /var/tmp/esp.img /tmp/image")
	defer g.sh("umount /tmp/image")
	return g.runBooter("stage " + slot + " /tmp/image")
}

func (g *guest) checkBooted(img osimage.Image) {
	g.t.Helper()
	if got := g.sh("findmnt -n -o UUID /"); got != img.RootUUID {
		g.t.Fatalf("root %s has booted, want %s\n%s", got, img.RootUUID, g.Console())
	}
}

func TestRealFirmwareTriesASlotKeepsItAndFallsBack(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	a, b := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	bad := buildSystem(t, osimage.Spec{Version: "3.0.0", Fault: osimage.DoesNotBoot})
	lap("three images")
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	disk := writeDisk(t, hole{"esp", 160, f.systems.EmptyESP(t.Context(), 160)}, hole{"root", 1024, contentOf(t, a, "/")},
		hole{"root", 1024, contentOf(t, b, "/")}, hole{"root", 1024, contentOf(t, bad, "/")})
	lap("disk written by hand")
	g := newMachine(t, lab.Options{Image: disk})
	again := func(want osimage.Image) {
		t.Helper()
		if err := g.BootAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		lap("boot by firmware to SSH")
		g.checkBooted(want)
		g.mountESP()
	}
	reboot := func() { g.sh("sync; systemctl --no-block reboot") }

	if err := g.BootLive(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot of the live system to SSH")
	g.mountESP()
	g.stage(a, "A")
	got := g.runBooter("try A")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", Staged: "no slot", Booted: "no slot", Next: "volume-a", Default: "no slot"}, got); diff != "" {
		t.Fatal(diff)
	}
	t.Log(g.sh("efibootmgr"))
	g.sh("umount /tmp/esp; sync")
	lap("slot A staged and armed")
	if err := g.PowerCut(); err != nil { // what was done is on the disk and in the firmware
		t.Fatal(err)
	}
	if err := g.BootInstalled(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot by firmware to SSH")
	g.checkBooted(a)
	g.mountESP()
	t.Log(g.sh("efibootmgr"))
	got = g.runBooter("keep A")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", Staged: "no slot", Booted: "volume-a", Next: "no slot", Default: "volume-a"}, got); diff != "" {
		t.Fatal(diff)
	}

	g.stage(b, "B")
	g.runBooter("try B")
	reboot()
	again(b)
	got = g.runBooter("entries")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", B: "vmlinuz-101-azlb0.efi", Staged: "no slot", Booted: "volume-b", Next: "no slot", Default: "volume-a"}, got); diff != "" {
		t.Error(diff)
	}
	reboot() // not kept
	again(a)

	g.stage(bad, "B")
	got = g.runBooter("try B")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", B: "vmlinuz-102-azlb0.efi", Staged: "no slot", Booted: "volume-a", Next: "volume-b", Default: "volume-a"}, got); diff != "" {
		t.Error(diff)
	}
	reboot()
	if err := g.BootAgain(t.Context()); !errors.Is(err, lab.ErrOff) {
		t.Fatalf("an image that does not boot: %v", err)
	}
	lap("a boot that fails")
	again(a)
	got = g.runBooter("entries")
	if got.Booted != "volume-a" || got.Next != "no slot" || got.Default != "volume-a" {
		t.Errorf("after a boot that failed: %+v", got)
	}
	t.Log(g.sh("efibootmgr"))
}
