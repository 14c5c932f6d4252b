package servicing

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// A knownFault is a reason for which a step after "image" would fail, and that is known
// before it.
type knownFault struct {
	step   string // that would fail
	name   string
	update bool                // into the other slot of a machine that runs v1; else an installation
	image  func() osImage      // nil: v1, or v2 for an update
	config func(string) string // changes the configuration
	sector int64               // of the disk
	world  func(w *osWorld)    // changes the machine
	says   string
	// onlyBySetting: only a change of the host can tell, so that a plan cannot.
	onlyBySetting bool
}

// nothingKnown are the steps after "image" that can only fail for what cannot be known
// before it, and why.
var nothingKnown = map[string]string{
	"pre-servicing": "scripts that fail; it is before the disks are changed, too",
	"seal":          "the machines of this test have no TPM; see slots/loader/seal_test.go",
	"stage":         "it writes the datastore",
	"finalize":      "it looks whether the host is still what it was",
	"reboot":        "systemd may refuse it",
	"booted":        "what boots is known when it has booted",
	"unlock":        "what the TPM opens is known when it has booted",
	"settle":        "it does what \"try\" does once more",
}

// uki is the ESP of an image with another UKI in place of its own.
func uki(data []byte, more ...string) fstest.MapFS {
	esp := boottest.ESP(boot.AMD64, "x")
	delete(esp, "EFI/Linux/linux-x.efi")
	if data != nil {
		esp["EFI/Linux/linux-x.efi"] = &fstest.MapFile{Data: data, Mode: 0o755}
	}
	for _, name := range more {
		delete(esp, name)
	}
	return esp
}

func sections(names ...string) []byte {
	var list []boottest.Section
	for _, n := range names {
		data := "x"
		if n == ".osrel" {
			data = "PRETTY_NAME=x\n"
		}
		list = append(list, boottest.Section{Name: n, Data: data})
	}
	return boottest.Program(boot.AMD64, list...)
}

func replaced(old, new string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic("the configuration has no " + old)
		}
		return strings.ReplaceAll(text, old, new)
	}
}

func added(section, line string) func(string) string {
	return replaced("\n"+section+":\n", "\n"+section+":\n"+line)
}

const sum384 = "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd"

func knownFaults(t *testing.T, selinuxImage osImage) []knownFault {
	images := 0
	called := func(typ string, esp, root fstest.MapFS, change func([]byte) []byte) func() osImage {
		images++
		i := assembled(t, fmt.Sprintf("k%d", images), fmt.Sprintf("%02x", 0xa0+images), esp, root, typ, change)
		return func() osImage { return i }
	}
	made := func(esp, root fstest.MapFS, change func([]byte) []byte) func() osImage {
		return called("", esp, root, change)
	}
	fine := boottest.ESP(boot.AMD64, "x")
	xfs := func(sector uint16, blocks uint64) func([]byte) []byte {
		return func(fs []byte) []byte {
			clear(fs[:4096])
			copy(fs, "XFSB")
			binary.BigEndian.PutUint32(fs[4:], 4096)
			binary.BigEndian.PutUint64(fs[8:], blocks)
			binary.BigEndian.PutUint16(fs[102:], sector)
			return fs
		}
	}
	return []knownFault{
		// Firmware and ESP.
		{step: "boot files", name: "no access to variables", world: func(w *osWorld) { w.noVars = true }, says: "no efivarfs is mounted"},
		{step: "boot files", name: "no access to variables, update", update: true, world: func(w *osWorld) { w.noVars = true }, says: "no efivarfs is mounted"},
		{step: "try", name: "variables read-only", world: func(w *osWorld) { w.vars.ReadOnly = true }, says: "cannot be set: read-only file system"},
		{step: "try", name: "variables read-only, update", update: true, world: func(w *osWorld) { w.vars.ReadOnly = true }, says: "cannot be set"},
		{step: "try", name: "memory of the firmware full", world: full(500), says: "the firmware's memory is full: "},
		{step: "try", name: "memory of the firmware full, update", update: true, world: full(500), says: "the firmware's memory is full: "},
		{step: "try", name: "memory of the firmware full, and it does not say so", onlyBySetting: true,
			world: func(w *osWorld) { full(500)(w); w.vars.Mute = true }, says: "find out whether the firmware takes boot entries: set EFI variable TridentRoom"},
		{step: "boot files", name: "ESP too small", config: replaced("type: esp, size: 32M", "type: esp, size: 1M"), says: "the ESP is full: the boot files need 2 MiB"},
		{step: "boot files", name: "ESP too small for both slots", update: true, image: made(uki(boottest.Program(boot.AMD64,
			boottest.Section{Name: ".osrel", Data: "ID=x\n"}, boottest.Section{Name: ".linux", Data: strings.Repeat("x", 31<<20)})), nil, nil), says: "the ESP is full: the boot files need 33 MiB"},
		{step: "boot files", name: "no UKI", image: made(uki(nil), nil, nil), says: "EFI/Linux has 0 unified kernel images"},
		{step: "boot files", name: "no kernel in the UKI", image: made(uki(sections(".osrel", ".initrd")), nil, nil), says: "it has no kernel"},
		{step: "boot files", name: "no name in the UKI", update: true, image: made(uki(sections(".linux")), nil, nil), says: "its .osrel has no name of a system"},
		{step: "boot files", name: "UKI of another machine", image: made(uki(boottest.UKI(boot.ARM64, "x")), nil, nil), says: "it is for arm64, and the host is amd64"},
		{step: "boot files", name: "UKI is none", image: made(uki([]byte("MZ, but not more")), nil, nil), says: "read its header"},
		{step: "boot files", name: "no boot loader", image: made(uki(boottest.UKI(boot.AMD64, "x"), "EFI/BOOT/BOOTX64.EFI"), nil, nil), says: "it has no boot loader"},
		{step: "boot files", name: "the slot is the default", update: true, world: func(w *osWorld) {
			if err := w.vars.Set(efivar.Name{Name: efivar.EntryDefault, Vendor: efivar.Loader}, text16("vmlinuz-100-azlb0.efi")); err != nil {
				t.Fatal(err)
			}
			w.addToESP("EFI/Linux/vmlinuz-100-azlb0.efi", boottest.UKI(boot.AMD64, "x"))
		}, says: "this slot is the default boot entry"},

		// Disks and file systems.
		{step: "partition", name: "no mkfs.ext4", world: lacking("mkfs.ext4"), says: "find the tool mkfs.ext4"},
		{step: "partition", name: "no mkfs.vfat", world: lacking("mkfs.vfat"), says: "find the tool mkfs.vfat"},
		{step: "write", name: "no resize2fs, update", update: true, world: lacking("resize2fs"), says: "find the tool resize2fs"},
		{step: "partition", name: "too small for XFS", config: replaced("{deviceId: trident, source: new,", "{deviceId: trident, source: new, type: xfs,"), says: "mkfs.xfs: Filesystem must be larger than 300MB."},
		{step: "partition", name: "overlay", config: replaced("  filesystems:\n", "  filesystems:\n  - {source: new, type: overlay, mountPoint: /opt}\n"), says: "file systems of type overlay"},
		{step: "partition", name: "label too long", config: replaced("{id: root-b, type: root,", "{id: root-b, label: "+strings.Repeat("l", 40)+", type: root,"), says: "is longer than the 36 characters"},
		{step: "partition", name: "more partitions than a table has", config: func(text string) string {
			more := ""
			for i := range 130 {
				more += fmt.Sprintf("    - {id: p%d, type: linux-generic, size: 1M}\n", i)
			}
			return replaced("    - {id: trident,", more+"    - {id: trident,")(text)
		}, says: "partitions"},
		{step: "partition", name: "disk too small", config: replaced("size: 32M", "size: 1G"), says: "the disk is too small"},
		{step: "write", name: "partition too small", config: replaced("root-a, type: root, size: 8M", "root-a, type: root, size: 1M"), image: made(fine, nil, func(fs []byte) []byte { return append(fs, make([]byte, 2<<20)...) }), says: "and its partition \"root-a\" has 1048576"},
		{step: "post-provision", name: "ext4 in small blocks on large sectors", sector: 4096, says: "it is ext4 in blocks of 1024 bytes, and its disk has sectors of 4096"},
		{step: "post-provision", name: "xfs in small sectors on large sectors", sector: 4096, image: made(fine, nil, xfs(512, 100)), says: "it is xfs in blocks of 512 bytes, and its disk has sectors of 4096"},
		{step: "post-provision", name: "xfs larger than its partition", image: made(fine, nil, xfs(512, 1<<20)), says: "it is xfs of 4294967296 bytes, and its partition \"root-a\" has 8388608"},
		{step: "post-provision", name: "no file system that is known", update: true, image: called("ext4", fine, nil, func(fs []byte) []byte { clear(fs[:4096]); return fs }), says: "does not begin with a file system that this version supports"},
		{step: "configure", name: "root cannot be written", image: called("squashfs", fine, nil, func(fs []byte) []byte { clear(fs[:4096]); copy(fs, "hsqs"); return fs }), says: "it is squashfs, which cannot be written"},
		{step: "write", name: "image is not what it says", image: func() osImage { return osImage{} }, says: "read images/"},
		{step: "post-provision", name: "a file system that stays is not known", update: true, world: func(w *osWorld) {
			p, _ := findLabel(w.inventory(), "trident")
			if _, err := w.disk.Part(p.Offset, p.Size).WriteAt(make([]byte, 4096), 0); err != nil {
				t.Fatal(err)
			}
		}, says: "has no file system that is known"},

		// The configuration.
		{step: "partition", name: "RAID", config: added("storage", "  raid: {software: [{id: r, name: r, level: raid1, devices: [root-a, root-b]}]}\n"), says: "cannot set up software RAID"},
		{step: "partition", name: "encryption", config: added("storage", "  encryption: {volumes: [{id: e, deviceName: e, deviceId: trident}]}\n"), says: "cannot set up encrypted volumes"},
		{step: "write", name: "verity", config: func(text string) string {
			text = added("storage", "  verity: [{id: v, name: root, dataDeviceId: root-a, hashDeviceId: root-b}]\n")(text)
			return replaced("{deviceId: root, mountPoint: /}", "{deviceId: v, mountPoint: /}")(text)
		}, says: `the configuration mounts the verity device "v" at /, and the image has no hash tree for it`},
		{step: "configure", name: "datastore on an A/B volume", update: true, config: replaced("mountPoint: /var/lib/trident}", "mountPoint: /srv/other}"), says: "is on A/B volume"},
		{step: "try", name: "datastore on a read-only volume", config: replaced("mountPoint: /var/lib/trident}", "mountPoint: {path: /var/lib/trident, options: ro}}"), says: "which is read-only: the state of the host cannot be kept there"},
		{step: "configure", name: "extensions on a read-only volume", config: func(text string) string {
			text = added("os", "  sysexts: [{url: 'file:///srv/e.raw', sha384: "+sum384+"}]\n")(text)
			return replaced("{deviceId: root, mountPoint: /}", "{deviceId: root, mountPoint: {path: /, options: ro}}\n  - {source: new, type: tmpfs, mountPoint: /var/tmp}")(text)
		}, says: "which is on a file system that is mounted read-only at /"},
		{step: "configure", name: "extension that is not there", config: added("os", "  sysexts: [{url: 'file:///srv/e.raw', sha384: "+sum384+"}]\n"), says: "/srv/e.raw"},
		{step: "configure", name: "extension of another hash", update: true, config: added("os", "  confexts: [{url: 'file:///srv/v1.cosi', sha384: "+sum384+"}]\n"), says: "not " + sum384},
		{step: "configure", name: "file without content", config: replaced("additionalFiles: [", "additionalFiles: [{destination: /etc/no}, "), says: "has neither content nor source"},
		{step: "configure", name: "file in the place of a folder", config: replaced("additionalFiles: [", "additionalFiles: [{destination: /etc/of.conf/x, content: x}, "), says: "and a file is not a folder"},
		{step: "configure", name: "file in the place of a mount", config: replaced("destination: /etc/of.conf", "destination: /boot"), says: "a file system is mounted at /boot/efi"},
		{step: "configure", name: "source that is not there", config: replaced("additionalFiles: [", "additionalFiles: [{destination: /etc/no, source: /no/such/file}, "), says: "/no/such/file"},
		{step: "configure", name: "user that cannot be", config: added("os", "  users: [{name: 'a b'}]\n"), says: "os.users[0].name"},
		{step: "configure", name: "host name that cannot be", update: true, config: added("os", "  hostname: '-'\n"), says: "os.hostname"},
		{step: "configure", name: "module that cannot be", config: replaced("name: loop", "name: 'lo op'"), says: "os.modules[0]"},
		{step: "configure", name: "unit that cannot be", config: added("os", "  services: {enable: ['a b']}\n"), says: "os.services"},
		{step: "configure", name: "command line", config: added("os", "  kernelCommandLine: {extraCommandLine: [quiet]}\n"), says: "os.kernelCommandLine.extraCommandLine"},
		{step: "configure", name: "network that netplan does not take", config: added("os", "  netplan: {version: 2, ethernets: {nonsense: {}}}\n"), says: "check os.netplan: netplan: exit status 78"},
		{step: "configure", name: "network that netplan does not take, update", update: true, config: added("os", "  netplan: {version: 2, ethernets: {nonsense: {}}}\n"), says: "check os.netplan: netplan: exit status 78"},
		{step: "configure", name: "link to nowhere", image: made(fine, fstest.MapFS{"opt": {Data: []byte("no/such/folder"), Mode: fs.ModeSymlink | 0o777}}, nil),
			config: func(text string) string {
				return replaced("destination: /etc/of.conf", "destination: /opt/of.conf")(scriptless(text))
			}, says: "opt is a link to nowhere"},
		{step: "configure", name: "folder in the place of a file, update", update: true, image: made(fine, fstest.MapFS{"etc/of.conf": {Mode: fs.ModeDir | 0o755}}, nil),
			config: scriptless, says: "neither a file nor a link"},
		{step: "labels", name: "no tool for the policy of SELinux", image: func() osImage { return selinuxImage }, config: scriptless, says: "it has no setfiles"},
		{step: "post-provision", name: "interpreter that is not there", config: replaced("content: provision}", "content: provision, interpreter: /usr/bin/no-such}"), says: "this host has no program /usr/bin/no-such"},
		{step: "post-configure", name: "environment that cannot be", config: replaced("content: post}", "content: post, environmentVariables: {'A B': x}}"), says: "cannot be the name of an environment variable"},
		{step: "labels", name: "extensions beside SELinux", config: added("os", "  selinux: {mode: enforcing}\n  sysexts: [{url: 'file:///srv/e.raw', sha384: "+sum384+"}]\n"), says: "SELinux is enforced"},
		{step: "health", name: "unit that is none", config: func(text string) string {
			return text + "health: {checks: [{name: u, runOn: [all], systemdServices: ['a b'], timeoutSeconds: 1}]}\n"
		}, says: "is not the name of a unit"},
	}
}

// scriptless is a configuration without its scripts, which may put things right.
func scriptless(text string) string {
	text, _, _ = strings.Cut(text, "\nscripts:\n")
	return text + "\n"
}

func full(memory int64) func(w *osWorld) {
	return func(w *osWorld) {
		if err := w.vars.Set(efivar.Name{Name: "dump-type0", Vendor: efivar.Global}, efivar.Variable{Attributes: efivar.BootVariables, Data: make([]byte, 8<<10)}); err != nil {
			w.t.Fatal(err)
		}
		w.vars.Memory = 8<<10 + memory
	}
}

func lacking(tool string) func(w *osWorld) { return func(w *osWorld) { w.lacks = []string{tool} } }

func text16(s string) efivar.Variable {
	var data []byte
	for _, c := range s + "\x00" {
		data = binary.LittleEndian.AppendUint16(data, uint16(c))
	}
	return efivar.Variable{Attributes: efivar.BootVariables, Data: data}
}

// addToESP puts a file on the ESP of a machine at rest, or one that has it mounted nowhere.
func (w *osWorld) addToESP(name string, data []byte) {
	w.t.Helper()
	p, _ := findLabel(w.inventory(), "esp")
	dir := tempDir(w.t)
	w.unpack(p.Path, dir)
	write(w.t, filepath.Join(dir, name), string(data))
	w.pack(mounted{device: p.Path, at: dir})
}

// state is what of a machine no plan and no refused servicing changes: disk, firmware.
func (w *osWorld) state() string {
	w.t.Helper()
	names, err := w.vars.List()
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint(w.disk.Sum(stateSeed), names)
}

var stateSeed = maphash.MakeSeed()

// Whatever can be known before a disk is changed is said before, by the step "image" and
// by a plan alike; and what has not begun is undone without a complaint.
func TestEveryKnowableFaultIsFoundBeforeADiskIsChanged(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	var installed *osWorld
	live := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		kind, start := installing(v1, true, true)(w)
		op := w.run(kind, start, "")
		if op.Phase != operation.Done || !slices.Equal(op.Plan, installSteps) {
			t.Fatalf("%s: %+v\nthe steps are %q, the test knows %q", op.Phase, op.Failure, op.Plan, installSteps)
		}
		w.rest()
		installed = w.copied(t, live)
	})
	rows := knownFaults(t, a.selinux)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { row.play(t, a, installed) })
		})
	}
	for _, step := range installSteps[slices.Index(installSteps, "image")+1:] {
		has := slices.ContainsFunc(rows, func(r knownFault) bool { return r.step == step })
		if why := nothingKnown[step]; has == (why != "") {
			t.Errorf("step %q: what can be known before it? A row is there: %v; nothing can be known: %q", step, has, why)
		}
	}
}

// The steps of operations on slots, as journals have them.
var (
	trialSteps   = []string{"finalize", "try", "reboot", "booted", "unlock", "health", "settle"}
	installSteps = append([]string{
		"begin", "management os", "image", "pre-servicing", "partition", "write", "post-provision", "configure", "post-configure", "labels", "seal", "boot files", "stage",
	}, trialSteps...)
	rollbackSteps = append([]string{"begin", "look", "stage"}, trialSteps...)
)

func (f knownFault) play(t *testing.T, a *album, installed *osWorld) {
	var w *osWorld
	image := a.v1
	if f.update {
		w, image = installed.copied(t, tempDir(t)), a.v2
	} else {
		w = newOSWorldOn(t, a, max(512, f.sector))
	}
	w.powerOn()
	if f.image != nil {
		image = f.image()
		if image.path == "" {
			image = a.corrupt
		}
		if err := os.Symlink(image.path, filepath.Join(w.root, "srv", filepath.Base(image.path))); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if f.world != nil {
		f.world(w)
	}
	text := hostOf(image, "")
	if f.config != nil {
		text = f.config(text)
	}
	// What upstream, or a release before, has taken.
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	before := w.state()
	s := w.daemon.service
	plan := s.PlanInstall
	if f.update {
		plan = s.Plan
	}
	if _, err := plan(t.Context(), c); f.onlyBySetting != (err == nil) || err != nil && !strings.Contains(err.Error(), f.says) {
		t.Errorf("the plan says %v\nwant %s", err, f.says)
	}
	if got := w.state(); got != before {
		t.Error("a plan has changed the machine")
	}
	w.Trace = nil
	var id string
	if f.update {
		id, err = s.Update(t.Context(), UpdateRequest{Config: c, Stage: true, Finalize: true})
	} else {
		id, err = s.Install(t.Context(), InstallRequest{Config: c, Stage: true, Finalize: true})
	}
	if err != nil { // before there is an operation
		if !strings.Contains(err.Error(), f.says) || w.state() != before {
			t.Errorf("it is refused: %v, want %s", err, f.says)
		}
		w.rest()
		return
	}
	op := w.waiting(id)
	if op.Phase != operation.Undone || op.Reached != "image" || !strings.Contains(op.Failure.Message, f.says) || errkind.Kind(op.Failure.Kind) == errkind.Internal {
		t.Errorf("%s, it got to %q: %+v\nwant %s\ntouches: %v", op.Phase, op.Reached, op.Failure, f.says, w.Trace)
	}
	if got := w.state(); got != before {
		t.Errorf("the disk or the firmware has changed; touches: %v", w.Trace)
	}
	if stale, err := filepath.Glob(filepath.Join(w.root, "run/trident/plan-*")); err != nil || len(stale) > 0 {
		t.Errorf("the plan has left behind %v, %v", stale, err)
	}
	w.rest()
}

// The variables of the firmware can be lost in the middle, and a host is not stuck by
// that: what was not begun needs no undoing.
func TestAFirmwareThatIsLostLeavesNoHostStuck(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for _, script := range []string{"pre", "provision", "post"} {
		for _, update := range []bool{false, true} {
			t.Run(fmt.Sprint(script, ", update: ", update), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newOSWorld(t, a)
					w.powerOn()
					do := installing(v1, true, true)
					if update {
						w.must(do)
						do = updating(v2, true, true)
					}
					hook := w.systemd.Hook
					w.systemd.Hook = func(ctx context.Context, c systemdtest.Call) error {
						w.noVars = w.noVars || c.Method == "StartTransient" && strings.Contains(c.Unit, "-"+script+"-")
						return hook(ctx, c)
					}
					kind, start := do(w)
					op := w.run(kind, start, "")
					if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, "no efivarfs is mounted") {
						t.Errorf("%s: %+v", op.Phase, op.Failure)
					}
					if update && w.slot != slot.A {
						t.Errorf("%v runs", w.slot)
					}
					w.rest()
				})
			})
		}
	}
}

// Each Undo may be called for a step that never began, on every machine.
func TestAnOperationThatNeverBeganIsUndone(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	for _, noVars := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			w.must(installing(v1, true, true))
			w.noVars = noVars
			st, err := w.daemon.service.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var paths []map[string]string
			for id, path := range st.PartitionPaths {
				paths = append(paths, map[string]string{"id": id, "path": path})
			}
			gone := []map[string]string{{"id": "esp", "path": "/dev/disk/by-partuuid/gone"}}
			update := map[string]any{"old": st.Spec, "asked": v2(a), "slot": slot.B, "index": st.InstallIndex, "paths": paths, "examined": true}
			back := maps.Clone(update)
			back["back"] = true
			install := map[string]any{"install": true, "asked": v1(a), "slot": slot.A, "examined": true}
			partitioned := maps.Clone(install)
			partitioned["partitioned"], partitioned["paths"] = true, gone
			for _, c := range []struct {
				kind   string
				steps  []string
				record map[string]any
			}{
				{"ab-update", installSteps, update},
				{"ab-rollback", rollbackSteps, back},
				{"commit", trialSteps, update},
				{"install", installSteps, install},
				{"install", installSteps, partitioned},
			} {
				state, err := json.Marshal(c.record)
				if err != nil {
					t.Fatal(err)
				}
				last := c.steps[len(c.steps)-1]
				op := operation.Operation{
					ID: rand.Text(), Kind: c.kind, Plan: c.steps, Phase: operation.Undoing, Step: last, Reached: last, State: state,
					Failure: &operation.Failure{Message: "it is to be undone"}, Created: time.Now(), Updated: time.Now(),
				}
				if err := w.daemon.store.Save(t.Context(), op); err != nil {
					t.Fatal(err)
				}
				w.stopDaemon()
				w.startDaemon()
				if got := w.settled(""); got.ID != op.ID || got.Phase != operation.Undone {
					t.Errorf("%s %v, without variables %v: %s at %s: %+v", c.kind, c.record["paths"], noVars, got.Phase, got.Step, got.Failure)
				}
			}
			w.rest()
			w.noVars = false
			w.powerOn()
			if w.slot != slot.A {
				t.Errorf("%v runs", w.slot)
			}
			w.rest()
		})
	}
}
