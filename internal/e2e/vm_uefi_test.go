//go:build vm

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// installs is what the tests of installed systems share: the package of version
// 1.0.0, in share, and a maker of images that have it.
var installs = sync.OnceValues(func() (*installFixture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	work, err := workFolder()
	if err != nil {
		return nil, err
	}
	f := &installFixture{fixture: fixture{dir: filepath.Join(work, "install-share"), work: work}}
	if f.maker, err = product.New(ctx, f.dir); err != nil {
		return nil, err
	}
	stub, err := f.maker.Stub()
	rpm, err2 := f.maker.RPM(ctx, base)
	service, err3 := f.maker.Service(ctx, base)
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, err
	}
	if f.trident, err = f.maker.Daemon(ctx, "./cmd/trident", "9.0.0-test"); err != nil {
		return nil, err
	}
	f.systems, err = osimage.New(ctx, filepath.Join(work, "systems"), stub, rpm, service)
	return f, err
})

type installFixture struct {
	fixture
	systems *osimage.Maker
}

// liveSystem is a guest with firmware, the package installed, and an empty disk of
// 5 GiB, /dev/disk/by-id/virtio-disk0; ready to be loaded. Its /share has what
// the fixture's folder had when it was made.
var liveSystem = sync.OnceValues(func() (*lab.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	f, err := installs()
	if err != nil {
		return nil, err
	}
	b, err := lab.Image(ctx, lab.Trixie())
	if err != nil {
		return nil, err
	}
	vm, err := lab.Boot(ctx, b, lab.Options{UEFI: true, Share: f.dir, Disks: []int64{5 << 10}})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	if err := vm.WaitBoot(ctx); err != nil {
		return nil, err
	}
	if out, err := vm.Run(ctx, installScript, nil); err != nil {
		return nil, errors.Join(err, errors.New(out), errors.New(vm.Evidence(ctx)))
	}
	return vm.Save(ctx, filepath.Join(f.work, "live"))
})

// live loads a live system.
func live(t *testing.T) *guest {
	t.Helper()
	s, err := liveSystem()
	if err != nil {
		t.Fatal(err)
	}
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Load(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, &f.fixture, vm)
}

// laps prints what each stage of a test took.
func laps(t *testing.T) func(stage string) {
	last := time.Now()
	return func(stage string) {
		t.Helper()
		t.Logf("%-40s %6.1f s", stage, time.Since(last).Seconds())
		last = time.Now()
	}
}

func system(t *testing.T, s osimage.Spec) osimage.Image {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.systems.Make(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A hole is a partition on a disk that a test writes, and what goes into it.
type hole struct {
	kind    string // type of the partition, and its name
	size    int64  // MiB
	content func(io.Writer) error
}

// from is the content of a file system of an image, by its mount point.
func from(t *testing.T, img osimage.Image, mountPoint string) func(io.Writer) error {
	return func(w io.Writer) error {
		i, err := image.Open(t.Context(), fetch.Origin{URL: "file://" + img.Path}, img.SHA384, image.Options{})
		if err != nil {
			return err
		}
		defer i.Close()
		for _, p := range i.Partitions() {
			if p.Filesystem == nil || p.Filesystem.MountPoint != mountPoint {
				continue
			}
			in, err := p.Open(t.Context())
			if err != nil {
				return err
			}
			_, err = io.Copy(w, in)
			return errors.Join(err, in.Close())
		}
		return errors.New("the image has nothing for " + mountPoint)
	}
}

// handmade writes a disk without Trident and returns its path.
func handmade(t *testing.T, holes ...hole) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const mib = 1 << 20
	table := gpt.Table{DiskID: gpt.GUID{1, 2, 3}}
	at := int64(1)
	for i, h := range holes {
		guid, ok := image.ParsePartType(h.kind, image.AMD64)
		if !ok {
			t.Fatalf("there is no type of partition %s", h.kind)
		}
		table.Partitions = append(table.Partitions, gpt.Partition{
			Type: guid, ID: gpt.GUID{0xab, byte(i)}, Name: h.kind, First: uint64(at * mib / 512), Last: uint64((at+h.size)*mib/512 - 1),
		})
		if err := h.content(&sparse{f: f, at: at * mib}); err != nil {
			t.Fatal(err)
		}
		at += h.size
	}
	table.Size = (at + 1) * mib
	if err := errors.Join(f.Truncate(table.Size), gpt.Write(f, &table)); err != nil {
		t.Fatal(err)
	}
	return path
}

// sparse writes to a new file, and leaves out what is zero.
type sparse struct {
	f  *os.File
	at int64
}

func (s *sparse) Write(p []byte) (int, error) {
	at := s.at
	s.at += int64(len(p))
	if len(strings.Trim(string(p), "\x00")) == 0 {
		return len(p), nil
	}
	return s.f.WriteAt(p, at)
}

// machine is a guest with firmware, and is off.
func machine(t *testing.T, opts lab.Options) *guest {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Image(t.Context(), lab.Trixie())
	if err != nil {
		t.Fatal(err)
	}
	opts.UEFI = true
	vm, err := lab.New(t.Context(), b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, &f.fixture, vm)
}

// selected is the entry that systemd-boot booted.
const selected = `tr -d '\0' </sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f | tail -c +5`

func TestALiveSystemHasFirmwareAndAnEmptyDisk(t *testing.T) {
	lap := laps(t)
	g := live(t)
	lap("packages, boot and load")
	if out, errs, code := g.trident("version"); code != 0 || !strings.Contains(out, base) {
		t.Errorf("trident version: %d, %s%s", code, out, errs)
	}
	const file = "/sys/firmware/efi/efivars/LabTest-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	g.sh(`printf '\007\000\000\000here' >` + file)
	if got := g.sh("tail -c +5 " + file + "; rm " + file + "; findmnt -n -o FSTYPE /sys/firmware/efi/efivars"); got != "hereefivarfs" {
		t.Errorf("variables: %q", got)
	}
	if got := g.sh("lsblk -n -b -o SIZE,TYPE,FSTYPE /dev/disk/by-id/virtio-disk0"); strings.Join(strings.Fields(got), " ") != "5368709120 disk" {
		t.Errorf("the disk is %q", got)
	}
	lap("looked at")
}

func TestAnImageOfDebianBootsByFirmware(t *testing.T) {
	lap := laps(t)
	first := system(t, osimage.Spec{Version: "1.0.0"})
	lap("packages and the first image")
	disk := handmade(t, hole{"esp", 64, from(t, first, "/boot/efi")}, hole{"root", 1024, from(t, first, "/")})
	lap("disk written by hand")
	g := machine(t, lab.Options{Image: disk})
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

// boots is what package boot says on a machine.
type boots struct{ A, B, Staged, Booted, Next, Default string }

// booter does a thing with the boot loader on the disk of the machine.
func (g *guest) booter(do string) (b boots) {
	g.t.Helper()
	out := g.sh("/var/tmp/booter -esp /tmp/esp -disk /dev/disk/by-id/virtio-image " + do)
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		g.t.Fatal(err, out)
	}
	return b
}

// mounted mounts the disk's ESP, and puts the program booter there.
func (g *guest) mounted() {
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
	g.sh("mkdir -p /tmp/esp && mount /dev/disk/by-id/virtio-image-part1 /tmp/esp")
}

// stage stages what the ESP of an image has.
func (g *guest) stage(img osimage.Image, slot string) boots {
	g.t.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(from(g.t, img, "/boot/efi")(w)) }()
	if err := g.Put(g.t.Context(), "/var/tmp/esp.img", r, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.sh("mkdir -p /tmp/image && mount -o ro,loop /var/tmp/esp.img /tmp/image")
	defer g.sh("umount /tmp/image")
	return g.booter("stage " + slot + " /tmp/image")
}

func (g *guest) bootedInto(img osimage.Image) {
	g.t.Helper()
	if got := g.sh("findmnt -n -o UUID /"); got != img.RootUUID {
		g.t.Fatalf("root %s has booted, want %s\n%s", got, img.RootUUID, g.Console())
	}
}

func TestASlotIsTriedKeptAndFallenBackFromByRealFirmware(t *testing.T) {
	lap := laps(t)
	a, b := system(t, osimage.Spec{Version: "1.0.0"}), system(t, osimage.Spec{Version: "2.0.0"})
	bad := system(t, osimage.Spec{Version: "3.0.0", Fault: osimage.DoesNotBoot})
	lap("three images")
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	disk := handmade(t, hole{"esp", 160, f.systems.EmptyESP(t.Context(), 160)}, hole{"root", 1024, from(t, a, "/")},
		hole{"root", 1024, from(t, b, "/")}, hole{"root", 1024, from(t, bad, "/")})
	lap("disk written by hand")
	g := machine(t, lab.Options{Image: disk})
	again := func(want osimage.Image) {
		t.Helper()
		if err := g.BootAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		lap("boot by firmware to SSH")
		g.bootedInto(want)
		g.mounted()
	}
	reboot := func() { g.sh("sync; systemctl --no-block reboot") }

	if err := g.BootLive(t.Context()); err != nil {
		t.Fatal(err)
	}
	lap("boot of the live system to SSH")
	g.mounted()
	g.stage(a, "A")
	got := g.booter("try A")
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
	g.bootedInto(a)
	g.mounted()
	t.Log(g.sh("efibootmgr"))
	got = g.booter("keep A")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", Staged: "no slot", Booted: "volume-a", Next: "no slot", Default: "volume-a"}, got); diff != "" {
		t.Fatal(diff)
	}

	g.stage(b, "B")
	g.booter("try B")
	reboot()
	again(b)
	got = g.booter("entries")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", B: "vmlinuz-101-azlb0.efi", Staged: "no slot", Booted: "volume-b", Next: "no slot", Default: "volume-a"}, got); diff != "" {
		t.Error(diff)
	}
	reboot() // not kept
	again(a)

	g.stage(bad, "B")
	got = g.booter("try B")
	if diff := cmp.Diff(boots{A: "vmlinuz-100-azla0.efi", B: "vmlinuz-102-azlb0.efi", Staged: "no slot", Booted: "volume-a", Next: "volume-b", Default: "volume-a"}, got); diff != "" {
		t.Error(diff)
	}
	reboot()
	if err := g.BootAgain(t.Context()); !errors.Is(err, lab.ErrOff) {
		t.Fatalf("an image that does not boot: %v", err)
	}
	lap("a boot that fails")
	again(a)
	got = g.booter("entries")
	if got.Booted != "volume-a" || got.Next != "no slot" || got.Default != "volume-a" {
		t.Errorf("after a boot that failed: %+v", got)
	}
	t.Log(g.sh("efibootmgr"))
}
