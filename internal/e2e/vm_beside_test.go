//go:build vm

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/linux/fat"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// spacious returns a Host Configuration that leaves room on the disk for another system, and
// has a volume that both systems will use.
func (i hostedImage) spacious() string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    partitions:
    - {id: esp, type: esp, size: 256M}
    - {id: root-a, type: root, size: 1G}
    - {id: root-b, type: root, size: 1G}
    - {id: common, type: linux-generic, size: 64M}
    - {id: trident, type: linux-generic, size: 128M}
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: common, source: new, mountPoint: /srv/common}
  - {deviceId: trident, source: new, mountPoint: /var/lib/trident}
os: {hostname: lab-first}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384)
}

// beside returns a Host Configuration that adopts all partitions of a system with the
// configuration spacious: the ESP by its label, the others by the UUIDs uuids, by label.
func (i hostedImage) beside(uuids map[string]string) string {
	return fmt.Sprintf(`image: {url: %q, sha384: %s}
storage:
  disks:
  - id: disk
    device: /dev/disk/by-id/virtio-disk0
    partitionTableType: gpt
    adoptedPartitions:
    - {id: esp, matchLabel: esp}
    - {id: first-a, matchUuid: %s}
    - {id: first-b, matchUuid: %s}
    - {id: common, matchUuid: %s}
    - {id: first-trident, matchUuid: %s}
    partitions:
    - {id: second-a, type: root, size: 1G}
    - {id: second-b, type: root, size: 1G}
    - {id: second-trident, type: linux-generic, size: 128M}
  abUpdate: {volumePairs: [{id: root, volumeAId: second-a, volumeBId: second-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: root, mountPoint: /}
  - {deviceId: common, source: adopted, mountPoint: {path: /srv/common, options: ro}}
  - {deviceId: second-trident, source: new, mountPoint: /var/lib/trident}
os: {hostname: lab-second}
internalParams: {trialTime: 4min}
`, i.url, i.SHA384, uuids["root-a"], uuids["root-b"], uuids["common"], uuids["trident"])
}

// A resident is what the first system has on the first disk of a machine.
type resident struct {
	UUIDs      map[string]string // of all partitions, by label
	Partitions map[string]string // number, place, type, UUID and the hash of the content, by label
	ESP        map[string]string // hashes of files, by name
}

// resident reads the first disk of a guest that is off. It leaves out what both systems use: of
// the volume common, which the second system checks before it mounts it, all but the UUID; and
// the files on the ESP that belong to the second system.
func (g *guest) resident() resident {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "disk.img")
	defer os.Remove(path)
	if err := g.Export(g.t.Context(), 0, path); err != nil {
		g.t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		g.t.Fatal(err)
	}
	table, err := gpt.ReadDisk(f, info.Size(), 512)
	if err != nil {
		g.t.Fatal(err)
	}
	out := resident{UUIDs: map[string]string{}, Partitions: map[string]string{}, ESP: map[string]string{}}
	for _, e := range table.Entries {
		content := io.NewSectionReader(f, e.Offset, e.Size)
		out.UUIDs[e.Name] = e.ID.String()
		switch {
		case e.Name == "esp":
			g.hashFiles(content, out.ESP)
		case slices.Contains([]string{"root-a", "root-b", "trident"}, e.Name):
			out.Partitions[e.Name] = fmt.Sprintf("%d %d %s %s %s", e.Number, e.Offset, e.Type, e.ID, g.hash(content))
		}
	}
	if len(out.Partitions) != 3 || len(out.ESP) == 0 {
		g.t.Fatalf("the disk has %+v", out)
	}
	return out
}

// hashFiles adds the hashes of the files on an ESP to out, without those of the second system.
func (g *guest) hashFiles(esp *io.SectionReader, out map[string]string) {
	g.t.Helper()
	files, err := fat.Open(esp, esp.Size())
	if err != nil {
		g.t.Fatal(err)
	}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "EFI/AZL2") {
			return err
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		out[name] = g.hash(f)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) hash(r io.Reader) string {
	g.t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		g.t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

var bootEntry = regexp.MustCompile(`(?m)^Boot[0-9A-F]{4}\*? (\S+).*$`)

// bootEntries returns the lines of efibootmgr(8) for the boot entries, and the order in which
// the firmware tries the entries, both without entries of the system with the index 1.
func (g *guest) bootEntries() (entries, order []string) {
	g.t.Helper()
	said := g.sh("efibootmgr -v 2>/dev/null || efibootmgr")
	ours := map[string]bool{}
	for _, m := range bootEntry.FindAllStringSubmatch(said, -1) {
		if strings.HasPrefix(m[1], "AZL2") {
			ours[m[0][4:8]] = true
			continue
		}
		entries = append(entries, strings.TrimSpace(m[0]))
	}
	for line := range strings.Lines(said) {
		if numbers, ok := strings.CutPrefix(strings.TrimSpace(line), "BootOrder: "); ok {
			order = slices.DeleteFunc(strings.Split(numbers, ","), func(n string) bool { return ours[n] })
		}
	}
	slices.Sort(entries)
	return entries, order
}

// bootNext has the firmware boot the entry with a label next.
func (g *guest) bootNext(label string) {
	g.t.Helper()
	g.sh(`n=$(efibootmgr | sed -n 's/^Boot\([0-9A-F]*\)\* ` + label + `\b.*/\1/p') && efibootmgr --quiet --bootnext $n`)
}

// checkSystem checks which system runs.
func (g *guest) checkSystem(img osimage.Image, host, volume string) {
	g.t.Helper()
	g.checkBooted(img)
	if got := g.sh("hostname; cat /srv/common/file"); got != host+"\nof both" {
		g.t.Errorf("the host and its common file are %q, want %s", got, host)
	}
	if st := g.status(); !strings.Contains(st, "servicingState: provisioned") || !strings.Contains(st, "abActiveVolume: "+volume) || !strings.Contains(st, img.SHA384) {
		g.t.Errorf("the status is\n%s", st)
	}
}

// The first system boots by systemd-boot, the second by GRUB. Beside the files and boot entries
// that Trident has made for the first system, there are some of a stranger.
func TestASystemIsInstalledAndUpdatedBesideAnother(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := liveGuest(t)
	first := buildSystem(t, osimage.Spec{Version: "1.0.0"})
	second, third := buildSystem(t, osimage.Spec{Version: "2.0.0", Grub: true}), buildSystem(t, osimage.Spec{Version: "4.0.0", Grub: true})
	lap("live system and images")
	g.installAs(g.serveImages(first)[0].spacious())
	g.sh(`echo of both >/srv/common/file
		mkdir -p /boot/efi/EFI/stranger && cp /boot/efi/EFI/BOOT/BOOTX64.EFI /boot/efi/EFI/stranger/boot.efi && echo mine >/boot/efi/EFI/stranger/settings
		efibootmgr --quiet --create-only --disk /dev/disk/by-id/virtio-disk0 --part 1 --label stranger --loader '\EFI\stranger\boot.efi'; sync`)
	g.checkSystem(first, "lab-first", "volume-a")
	entries, order := g.bootEntries()
	t.Log(g.sh("efibootmgr; find /boot/efi -type f"))
	g.off()
	before := g.resident()
	lap("the first system is installed")

	if err := g.BootLive(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.sh("systemctl stop tridentd.service; rm -rf /var/lib/trident/*; touch /override-trident-safety-check") // a live system of a medium remembers nothing
	config := g.serveImages(second)[0].beside(before.UUIDs)
	if said := g.runAcrossReboots(g.BootInstalled, "install", "--multiboot", g.file(config)); said.code != 0 {
		t.Fatalf("install: %+v", said)
	}
	g.awaitSettled()
	lap("the second system is installed")
	g.checkSystem(second, "lab-second", "volume-a")
	unchanged := func(when string, before resident) {
		t.Helper()
		gotEntries, gotOrder := g.bootEntries()
		if diff := cmp.Diff(entries, gotEntries) + cmp.Diff(order, gotOrder); diff != "" {
			t.Errorf("%s the other boot entries differ: %s", when, diff)
		}
		t.Log(g.sh("efibootmgr; find /boot/efi -type f; cat /etc/fstab"))
		g.off()
		after := g.resident()
		if diff := cmp.Diff(before.Partitions, after.Partitions) + cmp.Diff(before.ESP, after.ESP); diff != "" {
			t.Errorf("%s the first system differs: %s", when, diff)
		}
	}
	unchanged("after the installation", before)

	again := func(want osimage.Image, host, volume string) {
		t.Helper()
		if err := g.BootAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.awaitSettled()
		g.checkSystem(want, host, volume)
		lap("booted " + host)
	}
	again(first, "lab-first", "volume-a") // by BootOrder
	g.bootNext("AZL2A")
	g.off()
	before = g.resident()
	again(second, "lab-second", "volume-a") // by BootNext

	config = g.serveImages(third)[0].beside(before.UUIDs)
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(config)); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("the second system is updated")
	g.checkSystem(third, "lab-second", "volume-b")
	unchanged("after the update", before)
	again(first, "lab-first", "volume-a")
}
