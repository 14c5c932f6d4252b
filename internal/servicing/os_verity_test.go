package servicing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/verity"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// A verifiedSpec says what an image with a verified file system is.
type verifiedSpec struct {
	version, id string
	treeID      string              // of the UUID of the hash tree; "": id
	name        string              // of the verity device: root or usr
	overlay     bool                // the initrd mounts an overlay on /etc
	more        fstest.MapFS        // files of the verified file system
	cmdline     func(string) string // changes the sealed command line
	tree        func([]byte) []byte // changes the hash tree
	whole       bool                // the image has no index, so that it cannot be fetched by blocks
}

// buffer is a file in memory.
type buffer struct{ bytes.Buffer }

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p) - b.Len(); need > 0 {
		b.Write(make([]byte, need))
	}
	return copy(b.Bytes()[off:], p), nil
}

func padded(b []byte) []byte { return append(b, make([]byte, (4096-len(b)%4096)%4096)...) }

// verified makes an image whose root or /usr has a hash tree.
func verified(t testing.TB, s verifiedSpec) osImage {
	t.Helper()
	id := func(kind string) string { return strings.Repeat(s.id, 4) + "-0000-4000-8000-000000" + kind + s.id }
	usr := fstest.MapFS{
		"share/version":         {Data: []byte(s.version + "\n"), Mode: 0o644},
		"lib/os-release":        {Data: []byte("ID=test\nIMAGE_VERSION=" + s.version + "\n"), Mode: 0o644},
		"bin/tridentd":          {Data: []byte("tridentd"), Mode: 0o755},
		"lib/trident/base.json": {Data: []byte(`{"version":"1.0.0"}`), Mode: 0o644},
	}
	root := fstest.MapFS{
		"etc/machine-id": {Data: []byte("uninitialized\n"), Mode: 0o444},
		"etc/hostname":   {Data: []byte("image\n"), Mode: 0o644},
		"etc/fstab":      {Data: []byte("# the image's own\n"), Mode: 0o644},
	}
	for _, dir := range []string{"boot", "run", "proc", "sys", "dev", "tmp", "srv", "usr", "var/tmp", "var/lib/trident", "var/lib/trident-overlay"} {
		root[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	data, other := root, usr
	if s.name == "usr" {
		data, other = usr, root
	} else {
		for name, f := range usr {
			root["usr/"+name] = f
		}
	}
	for name, f := range s.more {
		data[name] = f
	}
	content := padded(fileSystem("ext4", id("aaaa"), data))
	var hash buffer
	treeUUID := id("bbbb")
	if s.treeID != "" {
		treeUUID = strings.Repeat(s.treeID, 4) + "-0000-4000-8000-000000bbbb" + s.treeID
	}
	var treeID [16]byte
	_, _ = hex.Decode(treeID[:], []byte(strings.ReplaceAll(treeUUID, "-", "")))
	sum, _, err := verity.Build(t.Context(), bytes.NewReader(content), int64(len(content)), []byte("salt"), treeID, &hash)
	if err != nil {
		t.Fatal(err)
	}
	tree := hash.Bytes()
	if s.tree != nil {
		tree = s.tree(bytes.Clone(tree))
	}
	line := fmt.Sprintf("quiet %[1]shash=%[2]x systemd.verity_%[3]s_data=UUID=%[4]s systemd.verity_%[3]s_hash=UUID=%[5]s",
		map[string]string{"root": "root", "usr": "usr"}[s.name], sum, s.name, id("aaaa"), treeUUID)
	if s.overlay {
		line += " rd.overlayfs=/etc,/etc/upper,/etc/work,UUID=" + id("cccc")
	}
	if s.cmdline != nil {
		line = s.cmdline(line)
	}
	esp := boottest.ESP(boot.AMD64, s.version)
	esp["EFI/Linux/linux-"+s.version+".efi"] = &fstest.MapFile{Mode: 0o755, Data: boottest.Program(boot.AMD64,
		boottest.Section{Name: ".osrel", Data: "ID=test\nPRETTY_NAME=Test\n"}, boottest.Section{Name: ".cmdline", Data: line},
		boottest.Section{Name: ".uname", Data: s.version}, boottest.Section{Name: ".linux", Data: "kernel"})}
	espMount := map[string]string{"root": "/boot", "usr": "/boot/efi"}[s.name]
	list := []struct {
		name, typ string
		content   []byte
		mount     *image.Mount
	}{
		{"esp", "esp", padded(fileSystem("vfat", strings.Repeat(s.id, 4), esp)), &image.Mount{MountPoint: espMount}},
		{s.name, s.name, content, &image.Mount{MountPoint: map[string]string{"root": "/", "usr": "/usr"}[s.name], HashTree: 3, RootHash: hex.EncodeToString(sum[:])}},
		{"hash", s.name + "-verity", padded(tree), nil},
	}
	rest := list[0]
	if rest.name, rest.typ = "root", "root"; s.name == "usr" {
		rest.content, rest.mount = padded(fileSystem("ext4", id("cccc"), other)), &image.Mount{MountPoint: "/"}
	} else {
		rest.name, rest.typ = "overlay", "linux-generic"
		rest.content, rest.mount = padded(fileSystem("ext4", id("cccc"), fstest.MapFS{})), &image.Mount{MountPoint: "/var/lib/trident-overlay"}
	}
	var parts []image.Part
	var mounts []image.Mount
	for i, p := range append(list, rest) {
		typ, ok := image.ParsePartType(p.typ, image.AMD64)
		if !ok {
			t.Fatal(p.typ)
		}
		parts = append(parts, image.Part{Name: p.name, Type: typ, Content: bytes.NewReader(p.content), Size: int64(len(p.content))})
		if p.mount != nil {
			p.mount.Number = i + 1
			mounts = append(mounts, *p.mount)
		}
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	frame := int64(4096)
	if s.whole {
		frame = 0
	}
	sha, err := image.Write(t.Context(), &out, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=test\n", Disk: disk, DiskSize: size, Temp: t.TempDir(), Packages: []image.Package{}, Mounts: mounts, FrameSize: frame,
		Bootloader: image.Bootloader{Type: image.SystemdBoot, SystemdBoot: &image.SystemdBootSet{Entries: []image.BootEntry{
			{Type: image.UKIStandalone, Path: espMount + "/EFI/Linux/test.efi", Cmdline: line, Kernel: s.version},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), s.version+".cosi")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return osImage{version: s.version, path: path, sha: sha}
}

// verifiedAlbum has images whose root or /usr is verified.
func verifiedAlbum(t testing.TB, name string) *album {
	is := func(version, id string, change func(*verifiedSpec)) osImage {
		s := verifiedSpec{version: version, id: id, name: name, overlay: name == "root"}
		if change != nil {
			change(&s)
		}
		return verified(t, s)
	}
	return &album{
		v1: is("v1", "11", nil), v2: is("v2", "22", nil),
		panics:  is("v3", "33", func(s *verifiedSpec) { s.more, s.whole = fstest.MapFS{"panic": {Data: []byte("x")}}, true }),
		corrupt: is("v6", "66", func(s *verifiedSpec) { s.tree = func(b []byte) []byte { b[len(b)-4096] ^= 1; return b } }),
	}
}

// verifiedHost returns a configuration for an image of verifiedAlbum(t, name).
func verifiedHost(name string, i osImage, more string) string {
	text := hostOf(i, more)
	replace := func(old, new string) {
		if !strings.Contains(text, old) {
			panic(old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	partitions, pairs, mounts := `    - {id: usr-a, type: usr, size: 2M}
    - {id: usr-b, type: usr, size: 2M}
    - {id: hash-a, type: usr-verity, size: 1M}
    - {id: hash-b, type: usr-verity, size: 1M}
`, "{id: data, volumeAId: usr-a, volumeBId: usr-b}, {id: hash, volumeAId: hash-a, volumeBId: hash-b}", `  - {deviceId: verified, mountPoint: {path: /usr, options: ro}}
`
	if name == "root" {
		partitions = `    - {id: hash-a, type: root-verity, size: 1M}
    - {id: hash-b, type: root-verity, size: 1M}
    - {id: overlay-a, size: 2M}
    - {id: overlay-b, size: 2M}
    - {id: tmp, size: 1M}
`
		pairs = "{id: hash, volumeAId: hash-a, volumeBId: hash-b}, {id: overlay, volumeAId: overlay-a, volumeBId: overlay-b}"
		mounts = `  - {deviceId: overlay, mountPoint: /var/lib/trident-overlay}
  - {deviceId: tmp, source: new, mountPoint: /var/tmp}
`
		replace("{deviceId: root, mountPoint: /}", "{deviceId: verified, mountPoint: {path: /, options: ro}}")
		replace("{deviceId: esp, mountPoint: /boot/efi}", "{deviceId: esp, mountPoint: /boot, overrideEspMount: override}")
	}
	data := map[string]string{"root": "root", "usr": "data"}[name]
	replace("    - {id: trident,", partitions+"    - {id: trident,")
	replace("volumeBId: root-b}]}\n", "volumeBId: root-b}, "+pairs+"]}\n  verity: [{id: verified, name: "+name+", dataDeviceId: "+data+", hashDeviceId: hash}]\n")
	replace("  - {deviceId: trident,", mounts+"  - {deviceId: trident,")
	return text
}

// However an update of a verified OS goes and wherever the power is cut, the machine boots
// one of the two systems, whose tree is whole.
func TestAVerifiedOSSurvivesPowerCuts(t *testing.T) {
	cases, played := 0, 0
	for _, name := range []string{"root", "usr"} {
		a := verifiedAlbum(t, name)
		host := func(image func(*album) osImage, more string) func(*album) string {
			return func(a *album) string { return verifiedHost(name, image(a), more) }
		}
		v1, v2 := host(func(a *album) osImage { return a.v1 }, ""), host(func(a *album) osImage { return a.v2 }, "")
		var installed, updated *osWorld
		lives := []string{tempDir(t), tempDir(t)}
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			w.must(installing(v1, true, true))
			w.rest()
			installed = w.copied(t, lives[0])
			w.powerOn()
			w.must(updating(v2, true, true))
			w.rest()
			updated = w.copied(t, lives[1])
		})
		for n, c := range []struct {
			osScenario
			start *osWorld
		}{
			{osScenario{name: "install", do: installing(v1, true, true), want: operation.Done, runs: slot.A, version: "v1"}, nil},
			{osScenario{name: "update", do: updating(v2, true, true), want: operation.Done, runs: slot.B, version: "v2", cut: onOneSide}, installed},
			{osScenario{name: "update, staged and finalized apart", do: updating(v2, true, false), then: updating(v2, false, true), want: operation.Done, runs: slot.B, version: "v2"}, installed},
			{osScenario{name: "an image that does not boot", do: updating(host(func(a *album) osImage { return a.panics }, ""), true, true),
				want: operation.Undone, kind: errkind.Unhealthy, named: "AbUpdateRebootCheck", runs: slot.A, version: "v1"}, installed},
			{osScenario{name: "a tree that is not of the data", do: updating(host(func(a *album) osImage { return a.corrupt }, ""), true, true),
				want: operation.Undone, kind: errkind.Corrupt, named: "CreateVerity", runs: slot.A, version: "v1"}, installed},
			{osScenario{name: "rollback", do: rollingBack, want: operation.Done, runs: slot.A, version: "v1"}, updated},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				start := func(t *testing.T) *osWorld {
					if c.start == nil {
						return newOSWorld(t, a)
					}
					return c.start.copied(t, tempDir(t))
				}
				played++
				cases += c.playWithCuts(t, n, start)
			})
		}
	}
	t.Logf("%d cases", cases)
	if cases < 200 && played == 12 {
		t.Errorf("%d cases only", cases)
	}
}
