package servicing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// osWorld is a machine: firmware, a disk, a live system, and what was installed.
// File systems are archives on the disk, which are unpacked where they are mounted;
// what boots is what the boot loader's own files and variables say.
type osWorld struct {
	hosttest.Power
	t     testing.TB
	album *album

	on    bool
	boots int
	lives int
	logs  bool // servicings leave their logs

	memory int64 // bytes that are available; 0 for unknown
	noTree error // why the kernel cannot mount the tree of an image

	medium  bool     // the live system boots, whatever is on the disk
	lacks   []string // tools that are not there
	noVars  bool     // the firmware gives no access to its variables
	disk    *blockdevtest.Memory
	vars    *efivartest.Fake
	live    string // the root folder of the live system, which stays
	root    string // of what runs
	slot    slot.Slot
	mounts  []mounted
	opened  []string                            // hash partitions of verity devices
	layers                                      // arrays and encrypted volumes
	corrupt error                               // why the kernel cannot verify what it has booted
	atBoot  func()                              // happens before each boot; may be nil
	onWrite func(label string, off int64) error // before each write to a partition; may be nil
	reboots bool                                // is asked for
	probe   sync.Mutex
	probed  map[string]probed        // content of the disks at the last probe
	found   map[string]blockdev.Disk // by the last probe, without their mounts
	unheard int                      // which request of a reboot, from 1 on, nobody answers
	daemon  *osProcess
	systemd *systemdtest.Fake
}

// mounted is a file system that is mounted. One that is read-only has the sum of its files;
// an overlay has its folder of changes and a copy of what is below it.
type mounted struct {
	device, at   string
	readOnly     bool
	sum          string
	upper, lower string
}

type osProcess struct {
	w       *osWorld
	dead    bool
	store   *hoststate.Store
	runner  *operation.Runner
	service *Service
}

const (
	theDisk  = "/dev/vdb"
	diskSize = 96 << 20
	headSize = 72 << 10 // of a file system, for its magic numbers
	vault    = "var/lib/trident"
)

// liveNetwork is that of the live system, before anybody sets it up anew.
const liveNetwork = "network: {version: 2}\n"

func newOSWorld(t testing.TB, a *album) *osWorld {
	return newOSWorldOn(t, a, 512)
}

// newOSWorldOn is a machine whose disk has sectors of so many bytes.
func newOSWorldOn(t testing.TB, a *album, sector int64) *osWorld {
	w := &osWorld{t: t, album: a, disk: blockdevtest.New(diskSize, sector), vars: &efivartest.Fake{}, live: tempDir(t)}
	write(t, filepath.Join(w.live, "usr/lib/os-release"), "ID=live\n")
	write(t, filepath.Join(w.live, "proc/self/mountinfo"), "22 1 0:5 / / rw - tmpfs tmpfs rw\n")
	write(t, filepath.Join(w.live, "etc/machine-id"), strings.Repeat("1", 32)+"\n")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n", "shadow": "root:*:1::::::\n", "gshadow": "root:*::\n",
		"ssh/sshd_config": "UsePAM yes\n", "cloud/cloud.cfg.d/vendor.cfg": "vendor\n", osconfig.Netplan[5:]: liveNetwork,
	} {
		write(t, filepath.Join(w.live, "etc", name), text)
	}
	return w
}

// copied is the machine at rest, once more.
func (w *osWorld) copied(t testing.TB, live string) *osWorld {
	other := &osWorld{layers: w.layers.copied(), t: t, album: w.album, disk: w.disk.Crash(rand.New(rand.NewPCG(1, 1))), vars: copyVars(t, w.vars), live: live, boots: w.boots, lacks: w.lacks, noVars: w.noVars}
	copyDisk(t, w.live, other.live, nil)
	return other
}

func copyVars(t testing.TB, from *efivartest.Fake) *efivartest.Fake {
	to := &efivartest.Fake{Memory: from.Memory, Mute: from.Mute, ReadOnly: from.ReadOnly}
	names, err := from.List()
	for _, n := range names {
		v, gerr := from.Get(n)
		err = errors.Join(err, gerr, to.Set(n, v))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// powerOn starts the machine until a system is up that stays up.
func (w *osWorld) powerOn() {
	for range 10 {
		if w.atBoot != nil {
			w.atBoot()
		}
		w.boots++
		w.startSystem()
		w.album.hang(w.t, filepath.Join(w.root, "srv"))
		switch {
		case w.slot == 0:
			w.startDaemon()
			return
		case w.corrupt != nil:
		case w.has("panic"), w.has("usr/panic"):
		case w.has("usr/bin/tridentd.broken"):
			if !w.has("etc/systemd/system/sysinit.target.wants/trident-trial.timer") {
				w.t.Fatalf("a system that cannot confirm itself has nobody who ends it\ntouches: %v", w.Trace)
			}
			write(w.t, filepath.Join(w.root, "var/lib/trident/trial-journal"), "tridentd is broken\n")
		default:
			w.startDaemon()
			return
		}
		w.stopSystem()
	}
	w.t.Fatalf("the machine boots over and over\ntouches: %v", w.Trace)
}

func (w *osWorld) has(name string) bool {
	_, err := os.Lstat(filepath.Join(w.root, name))
	return err == nil
}

// startSystem boots what firmware and boot loader find, or the live system.
func (w *osWorld) startSystem() {
	w.on, w.slot, w.root, w.mounts, w.reboots = true, 0, w.live, nil, false
	w.opened, w.corrupt = nil, nil
	w.assemble()
	w.systemd = &systemdtest.Fake{}
	w.systemd.Hook = w.called
	w.systemd.Define(systemdtest.Definition{Name: "trident-trial.timer", Oneshot: true})
	w.systemd.Define(systemdtest.Definition{Name: "ssh.service", Reloads: true})
	w.systemd.Set("ssh.service", systemd.Unit{Active: "active"})
	inv := w.inventory()
	esp, ok := w.firmwareESP(inv)
	if !ok || w.medium {
		w.applyNetwork()
		return
	}
	dir := tempDir(w.t)
	w.unpackFrom(w.diskOf(esp.Path).Part(esp.Offset, esp.Size), esp.Label, dir)
	id, err := gpt.ParseGUID(esp.UUID)
	if err != nil {
		w.t.Fatal(err)
	}
	slotOf := func(fsUUID string) slot.Slot {
		for _, p := range inv.Disks[0].Partitions {
			if p.Content.UUID == fsUUID {
				return map[string]slot.Slot{"root-a": slot.A, "root-b": slot.B}[p.Label]
			}
		}
		return 0
	}
	booted, err := boottest.Machine{ESP: dir, Vars: w.vars, Partition: id, Arch: boot.AMD64, SlotOf: slotOf}.Boot()
	if errors.Is(err, boottest.ErrDark) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.slot, w.root = booted.Slot, tempDir(w.t)
	w.unlock(dir, booted.Uname)
	root, _ := w.node(map[slot.Slot]string{slot.A: "root-a", slot.B: "root-b"}[w.slot])
	w.mountSystem(root.Path, w.cmdlineOf(dir, booted.Uname))
	if w.corrupt != nil {
		return
	}
	if got := strings.TrimSpace(w.text("usr/share/version")); got != booted.Uname {
		w.t.Fatalf("the kernel is of %q and the root file system of %q\ntouches: %v", booted.Uname, got, w.Trace)
	}
	shared, _ := w.node("trident")
	if err := hosttest.MkdirAll(filepath.Join(w.root, vault)); err != nil {
		w.t.Fatal(err)
	}
	w.mount(shared.Path, filepath.Join(w.root, vault))
	w.mountData()
}

func findLabel(inv *blockdev.Inventory, label string) (blockdev.Partition, bool) {
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			if p.Label == label {
				return p, true
			}
		}
	}
	return blockdev.Partition{}, false
}

func (w *osWorld) text(name string) string { return hosttest.Text(w.t, filepath.Join(w.root, name)) }

// stopSystem writes what is mounted back to the disk, and switches the machine off.
func (w *osWorld) stopSystem() {
	for _, m := range slices.Backward(w.mounts) {
		w.pack(m)
	}
	w.mounts, w.on = nil, false
}

func (w *osWorld) startDaemon() {
	w.lives++
	p := &osProcess{w: w}
	p.store, p.runner = openJournal(w.t, w.root, operation.Life{Boot: fmt.Sprint("boot ", w.boots), Process: fmt.Sprint(w.lives)})
	touch := func(name string, change func() error) error { return w.touch(p, name, change) }
	tools := worldTools{run.Func(w.tool), w}
	logger := slog.New(slog.DiscardHandler)
	self := selfservice.New(selfservice.Config{Root: w.root, Version: "1.0.0", Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Logger: logger, Touch: touch})
	p.service = newService(change.Host{
		Root: w.root, Version: "1.0.0", Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Logger: logger, Touch: touch,
	}, machine.Machine{
		Inventory: func() (*blockdev.Inventory, error) { return w.inventory(), nil },
		Disks:     storage.Tools{Runner: tools, Open: w.open, Await: func(context.Context, ...string) error { return nil }, Arrays: w.manager(), Volumes: w.volumes()},
		Mounts:    w, Firmware: w.firmware, ESPFiles: w.espFiles, ESPNow: w.espNow, Tree: w.tree, Memory: func() (int64, bool) { return w.memory, w.memory > 0 }, Arch: "amd64",
	}, self)
	if w.luks != nil {
		p.service.slots.UseTPM(w.chip)
	}
	if w.logs {
		p.runner.Observe = p.service.Logs.Observe
	}
	w.Mu.Lock()
	w.daemon = p
	w.Mu.Unlock()
	if err := p.runner.Resume(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *osWorld) stopDaemon() {
	closeJournal(w.t, w.daemon.store, w.daemon.runner)
}

// touch is a change of the machine by p, at which the power may be cut.
func (w *osWorld) touch(p *osProcess, name string, change func() error) error {
	by := hosttest.Toucher{IsDead: func() bool { return p.dead }, Cut: func() { w.cut(p) }, Datastore: filepath.Join(w.root, datastore)}
	return w.Touch(by, name, change)
}

// cut switches the power off. The disk keeps what it had on the medium, and of the
// rest what chance leaves; file systems keep what was written to their files. The
// caller holds w.Mu.
func (w *osWorld) cut(p *osProcess) {
	w.on, p.dead = false, true
	w.disk = w.disk.Crash(rand.New(rand.NewPCG(uint64(w.Touches), 7)))
	if w.second != nil {
		w.second = w.second.Crash(rand.New(rand.NewPCG(uint64(w.Touches), 8)))
	}
	w.vars = copyVars(w.t, w.vars)
	if w.slot == 0 {
		live := tempDir(w.t)
		copyDisk(w.t, w.live, live, func(name string) bool {
			return strings.HasPrefix(name, datastore) || strings.HasPrefix(name, "run/") || strings.HasPrefix(name, "srv/")
		})
		if err := p.store.Snapshot(context.Background(), filepath.Join(live, datastore)); err != nil {
			w.t.Error(err)
		}
		w.live = live
	}
	for _, m := range slices.Backward(w.mounts) {
		if m.at == filepath.Join(w.root, vault) {
			at := tempDir(w.t)
			copyDisk(w.t, m.at, at, func(name string) bool { return strings.HasPrefix(name, filepath.Base(datastore)) })
			if err := p.store.Snapshot(context.Background(), filepath.Join(at, filepath.Base(datastore))); err != nil {
				w.t.Error(err)
			}
			m.at = at
		}
		w.pack(m)
	}
	w.mounts = nil
}

// worldTools are the tools of a machine, of which some are missing.
type worldTools struct {
	run.Runner
	w *osWorld
}

// Find implements run.Finder.
func (t worldTools) Find(name string) error {
	if slices.Contains(t.w.lacks, name) {
		return errkind.Errorf(errkind.Precondition, "find the tool %s: there is none", name)
	}
	return nil
}

// firmware is that of a machine that gives access to its variables, or does not.
func (w *osWorld) firmware() (efivar.Store, error) {
	if w.noVars {
		return nil, errkind.Errorf(errkind.Precondition, "open EFI variables: no efivarfs is mounted")
	}
	return w.vars, nil
}

// tool makes file systems, and is netplan.
func (w *osWorld) tool(_ context.Context, name string, args ...string) ([]byte, error) {
	if slices.Contains(w.lacks, name) {
		return nil, errkind.Errorf(errkind.Precondition, "run %s: there is none", name)
	}
	if name == "netplan" {
		if i := slices.Index(args, "--root-dir"); i >= 0 { // it only reads
			data, err := os.ReadFile(filepath.Join(args[i+1], osconfig.Netplan))
			if err == nil && strings.Contains(string(data), "nonsense") {
				err = &run.ExitError{Tool: "netplan", Status: "exit status 78", Output: "it does not parse"}
			}
			return nil, err
		}
		if strings.Contains(w.text(osconfig.Netplan), "nonsense") {
			return nil, &run.ExitError{Tool: "netplan", Status: "exit status 78", Output: "it does not parse"}
		}
		if i := slices.Index(args, "--state"); i >= 0 { // what it takes the devices away of
			data, err := os.ReadFile(filepath.Join(args[i+1], osconfig.Netplan))
			if err != nil || !strings.Contains(string(data), "ethernets") || w.text(osconfig.Netplan) != liveNetwork {
				w.t.Errorf("the network that is taken back is %q, %v", data, err)
			}
		}
		w.applyNetwork()
		return nil, nil
	}
	if name == "mkswap" {
		return nil, w.makeSwap(args)
	}
	if !strings.HasPrefix(name, "mkfs.") {
		return nil, nil
	}
	if slices.Contains(args, "-N") { // nothing is made
		info, err := os.Stat(args[len(args)-1])
		if err == nil && info.Size() < 300<<20 {
			err = &run.ExitError{Tool: name, Status: "exit status 1", Output: "Filesystem must be larger than 300MB.\nUsage: mkfs.xfs"}
		}
		return nil, err
	}
	dev, err := w.open(args[len(args)-1], true)
	if err != nil {
		return nil, err
	}
	id := ""
	for i, a := range args {
		if a == "-U" || a == "-i" {
			id = args[i+1]
		}
	}
	_, err = dev.WriteAt(fileSystem(strings.TrimPrefix(name, "mkfs."), id, nil), 0)
	return nil, err
}

// called is what systemd does beyond what the fake does by itself.
func (w *osWorld) called(ctx context.Context, c systemdtest.Call) error {
	switch c.Method {
	case "Reboot":
		ops, err := w.daemon.runner.List(ctx, 1, false)
		if err != nil || ops[0].Waiting != operation.Reboot {
			w.t.Errorf("a reboot is asked for before it is journaled that it is waited for: %+v, %v", ops, err)
		}
		w.Mu.Lock()
		w.unheard--
		unheard := w.unheard == 0
		w.reboots = !unheard
		w.Mu.Unlock()
		if unheard {
			<-ctx.Done()
			return context.Cause(ctx)
		}
	case "StartTransient":
		return playScript(w.root, c.Transient.Exec[1])
	}
	return nil
}

// applyNetwork makes the network what its file says.
func (w *osWorld) applyNetwork() {
	write(w.t, filepath.Join(w.root, "run/network"), w.text(osconfig.Netplan))
}

func (w *osWorld) parse(text string) *hostconfig.Config {
	w.t.Helper()
	c, report := hostconfig.Parse([]byte(text), rules.Check)
	if err := report.Err(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
