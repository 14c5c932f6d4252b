package servicing

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// osWorld is a machine: firmware, a disk, a live system, and what was installed.
// File systems are archives on the disk, which are unpacked where they are mounted;
// what boots is what the boot loader's own files and variables say.
type osWorld struct {
	t     testing.TB
	album *album

	mu      sync.Mutex
	on      bool
	boots   int
	lives   int
	touches int
	cutAt   int
	after   bool
	trace   []string

	disk    *blockdevtest.Memory
	vars    *efivartest.Fake
	live    string // the root folder of the live system, which stays
	root    string // of what runs
	slot    slot.Slot
	mounts  []mounted
	reboots bool // is asked for
	unheard int  // which request of a reboot, from 1 on, nobody answers
	daemon  *osProcess
	systemd *systemdtest.Fake
}

type mounted struct{ device, at string }

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

func newOSWorld(t testing.TB, a *album) *osWorld {
	w := &osWorld{t: t, album: a, disk: blockdevtest.New(diskSize, 512), vars: &efivartest.Fake{}, live: tempDir(t)}
	write(t, filepath.Join(w.live, "usr/lib/os-release"), "ID=live\n")
	write(t, filepath.Join(w.live, "proc/self/mountinfo"), "22 1 0:5 / / rw - tmpfs tmpfs rw\n")
	write(t, filepath.Join(w.live, "etc/machine-id"), strings.Repeat("1", 32)+"\n")
	return w
}

// copied is the machine at rest, once more.
func (w *osWorld) copied(t testing.TB, live string) *osWorld {
	other := &osWorld{t: t, album: w.album, disk: w.disk.Crash(rand.New(rand.NewPCG(1, 1))), vars: copyVars(t, w.vars), live: live, boots: w.boots}
	copyDisk(t, w.live, other.live, nil)
	return other
}

func copyVars(t testing.TB, from *efivartest.Fake) *efivartest.Fake {
	to := &efivartest.Fake{}
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
		w.boots++
		w.startSystem()
		w.album.hang(w.t, filepath.Join(w.root, "srv"))
		switch {
		case w.slot == 0:
			w.startDaemon()
			return
		case w.has("panic"):
		case w.has("usr/bin/tridentd.broken"):
			if !w.has("etc/systemd/system/sysinit.target.wants/" + guardTimer) {
				w.t.Fatalf("a system that cannot confirm itself has nobody who ends it\ntouches: %v", w.trace)
			}
			write(w.t, filepath.Join(w.root, evidenceFile), "tridentd is broken\n")
		default:
			w.startDaemon()
			return
		}
		w.stopSystem()
	}
	w.t.Fatalf("the machine boots over and over\ntouches: %v", w.trace)
}

func (w *osWorld) has(name string) bool {
	_, err := os.Lstat(filepath.Join(w.root, name))
	return err == nil
}

// startSystem boots what firmware and boot loader find, or the live system.
func (w *osWorld) startSystem() {
	w.on, w.slot, w.root, w.mounts, w.reboots = true, 0, w.live, nil, false
	w.systemd = &systemdtest.Fake{}
	w.systemd.Hook = w.called
	for _, unit := range []string{guardTimer} {
		w.systemd.Define(systemdtest.Definition{Name: unit, Oneshot: true})
	}
	inv := w.inventory()
	esp, ok := findLabel(inv, "esp")
	if !ok || esp.Content.Type != "vfat" {
		return
	}
	dir := tempDir(w.t)
	w.unpack(esp.Path, dir)
	id, err := gpt.ParseGUID(esp.UUID)
	if err != nil {
		w.t.Fatal(err)
	}
	booted, err := boottest.Machine{ESP: dir, Vars: w.vars, Partition: id, Arch: boot.AMD64}.Boot()
	if errors.Is(err, boottest.ErrDark) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.slot, w.root = booted.Slot, tempDir(w.t)
	root, _ := findLabel(inv, map[slot.Slot]string{slot.A: "root-a", slot.B: "root-b"}[w.slot])
	w.mount(root.Path, w.root)
	if got := strings.TrimSpace(w.text("usr/share/version")); got != booted.Uname {
		w.t.Fatalf("the kernel is of %q and the root file system of %q\ntouches: %v", booted.Uname, got, w.trace)
	}
	shared, _ := findLabel(inv, "trident")
	if err := os.MkdirAll(filepath.Join(w.root, vault), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.mount(shared.Path, filepath.Join(w.root, vault))
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

func (w *osWorld) text(name string) string {
	data, err := os.ReadFile(filepath.Join(w.root, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
	return string(data)
}

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
	var err error
	if p.store, err = hoststate.Open(context.Background(), filepath.Join(w.root, datastore)); err != nil {
		w.t.Fatal(err)
	}
	p.runner, err = operation.New(context.Background(), operation.Config{
		Journal: p.store, Logger: slog.New(slog.DiscardHandler),
		Life: operation.Life{Boot: fmt.Sprint("boot ", w.boots), Process: fmt.Sprint(w.lives)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	touch := func(name string, change func() error) error { return w.touch(p, name, change) }
	tools := run.Func(w.tool)
	logger := slog.New(slog.DiscardHandler)
	self := selfservice.New(selfservice.Config{Root: w.root, Version: "1.0.0", Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Logger: logger, Touch: touch})
	p.service = New(Config{
		Root: w.root, Version: "1.0.0", Runner: p.runner, Store: p.store, Systemd: w.systemd, Tools: tools, Self: self, Logger: logger, Touch: touch,
		Machine: Machine{
			Inventory: func() (*blockdev.Inventory, error) { return w.inventory(), nil },
			Disks:     storage.Tools{Runner: tools, Open: w.open, Await: func(context.Context, ...string) error { return nil }},
			Mounts:    w, Firmware: func() (efivar.Store, error) { return w.vars, nil }, ESPFiles: w.espFiles, Arch: "amd64",
		},
	})
	w.mu.Lock()
	w.daemon = p
	w.mu.Unlock()
	if err := p.runner.Resume(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *osWorld) stopDaemon() {
	if err := w.daemon.runner.Shutdown(context.Background()); err != nil {
		w.t.Error(err)
	}
	if err := w.daemon.store.Close(); err != nil {
		w.t.Error(err)
	}
}

// touch is a change of the machine by p, at which the power may be cut.
func (w *osWorld) touch(p *osProcess, name string, change func() error) error {
	w.mu.Lock()
	if p.dead {
		w.mu.Unlock()
		return errDead
	}
	w.touches++
	hit := w.touches == w.cutAt
	w.trace = append(w.trace, name)
	if hit && !w.after {
		w.cut(p)
		w.mu.Unlock()
		return errDead
	}
	w.mu.Unlock()
	err := change()
	w.mu.Lock()
	defer w.mu.Unlock()
	if hit && !p.dead {
		w.cut(p)
	}
	if p.dead {
		return errDead
	}
	return err
}

// cut switches the power off. The disk keeps what it had on the medium, and of the
// rest what chance leaves; file systems keep what was written to their files. The
// caller holds w.mu.
func (w *osWorld) cut(p *osProcess) {
	w.on, p.dead = false, true
	w.disk = w.disk.Crash(rand.New(rand.NewPCG(uint64(w.touches), 7)))
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

// inventory is what the kernel sees.
func (w *osWorld) inventory() *blockdev.Inventory {
	d := blockdev.Disk{Name: filepath.Base(theDisk), Path: theDisk, Size: w.disk.Size(), SectorSize: 512}
	table, err := gpt.ReadDisk(w.disk, w.disk.Size(), 512)
	if err != nil || table == nil {
		return &blockdev.Inventory{Disks: []blockdev.Disk{d}}
	}
	d.Table, d.TableID, d.GPT = blockdev.TableGPT, table.ID.String(), table
	for _, e := range table.Entries {
		p := blockdev.Partition{
			Number: e.Number, Name: blockdev.PartitionName(d.Name, e.Number), Offset: e.Offset, Size: e.Size,
			Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name, Links: []string{"/dev/disk/by-partuuid/" + e.ID.String()},
			Content: blockdev.Probe(io.NewSectionReader(w.disk, e.Offset, e.Size), e.Size),
		}
		p.Path = "/dev/" + p.Name
		for _, m := range w.mounts {
			if rel, err := filepath.Rel(w.root, m.at); m.device == p.Path && err == nil {
				p.Use.Mounts = append(p.Use.Mounts, filepath.Clean("/"+rel))
			}
		}
		d.Partitions = append(d.Partitions, p)
	}
	return &blockdev.Inventory{Disks: []blockdev.Disk{d}}
}

// open is blockdev.Open.
func (w *osWorld) open(path string, exclusive bool) (blockdev.Device, error) {
	if path == theDisk {
		return w.disk, nil
	}
	p, ok := w.inventory().Partition(path)
	if !ok {
		return nil, errkind.Errorf(errkind.NotFound, "open %s: there is no such device", path)
	}
	if exclusive && p.Use.InUse() {
		return nil, errkind.Errorf(errkind.Precondition, "open %s: it is %s", path, p.Use)
	}
	return w.disk.Part(p.Offset, p.Size), nil
}

// Mount implements mount.Mounter.
func (w *osWorld) Mount(source, target, fstype, _ string) error {
	if fstype == "tmpfs" || fstype == "proc" || fstype == "bind" {
		return nil
	}
	p, ok := w.inventory().Partition(source)
	if !ok {
		return errkind.Errorf(errkind.NotFound, "mount %s: there is no such device", source)
	}
	w.mount(p.Path, target)
	return nil
}

// mount unpacks a file system. One that the host has mounted elsewhere is shown
// there too.
func (w *osWorld) mount(device, at string) {
	i := slices.IndexFunc(w.mounts, func(m mounted) bool { return m.device == device })
	if i >= 0 {
		copyDisk(w.t, w.mounts[i].at, at, func(name string) bool { return strings.HasPrefix(name, filepath.Base(datastore)) })
	} else {
		w.unpack(device, at)
	}
	w.mounts = append(w.mounts, mounted{device, at})
}

// Unmount implements mount.Mounter.
func (w *osWorld) Unmount(target string) error {
	for i, m := range slices.Backward(w.mounts) {
		if m.at != target && !strings.HasPrefix(m.at, target+"/") {
			continue
		}
		w.mounts = slices.Delete(w.mounts, i, i+1)
		if j := slices.IndexFunc(w.mounts, func(o mounted) bool { return o.device == m.device }); j >= 0 {
			w.merge(m.at, w.mounts[j].at)
		} else {
			w.pack(m)
		}
		names, err := os.ReadDir(m.at)
		for _, n := range names {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.at, n.Name())))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// merge brings what is new in one view of a file system to the other.
func (w *osWorld) merge(from, to string) {
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, file)
		there := filepath.Join(to, rel)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(there); err == nil {
			return nil
		}
		if d.IsDir() {
			return os.MkdirAll(there, 0o755)
		}
		data, err := os.ReadFile(file)
		return errors.Join(err, os.WriteFile(there, data, 0o600))
	})
	if err != nil {
		w.t.Error(err)
	}
}

func (w *osWorld) unpack(device, at string) {
	p, ok := w.inventory().Partition(device)
	if !ok {
		w.t.Fatalf("no device %s", device)
	}
	r := io.NewSectionReader(w.disk, p.Offset, p.Size)
	var size [8]byte
	if _, err := r.ReadAt(size[:], headSize); err != nil {
		w.t.Fatal(err)
	}
	if err := untar(io.NewSectionReader(r, headSize+8, int64(binary.LittleEndian.Uint64(size[:]))), at); err != nil {
		w.t.Fatalf("mount %s: %v\ntouches: %v", p.Label, err, w.trace)
	}
}

// pack writes a folder back to its device.
func (w *osWorld) pack(m mounted) {
	inner := []string{}
	for _, o := range w.mounts {
		if rel, err := filepath.Rel(m.at, o.at); err == nil && rel != "." && !strings.HasPrefix(rel, "..") {
			inner = append(inner, rel)
		}
	}
	if m.at == w.root { // what is no file of it
		inner = append(inner, "run", "proc", "srv", vault)
	}
	data, err := tarOf(m.at, inner)
	if err != nil {
		w.t.Error(err)
		return
	}
	p, _ := w.inventory().Partition(m.device)
	dev := w.disk.Part(p.Offset, p.Size)
	_, err = dev.WriteAt(append(binary.LittleEndian.AppendUint64(nil, uint64(len(data))), data...), headSize)
	if err := errors.Join(err, dev.Sync()); err != nil {
		w.t.Error(err)
	}
}

func (w *osWorld) espFiles(image *os.File) (fs.FS, func() error, error) {
	dir, err := os.MkdirTemp(filepath.Dir(image.Name()), "esp")
	if err != nil {
		return nil, nil, err
	}
	var size [8]byte
	if _, err := image.ReadAt(size[:], headSize); err != nil {
		return nil, nil, err
	}
	err = untar(io.NewSectionReader(image, headSize+8, int64(binary.LittleEndian.Uint64(size[:]))), dir)
	return os.DirFS(dir), func() error { return os.RemoveAll(dir) }, err
}

// tool makes file systems.
func (w *osWorld) tool(_ context.Context, name string, args ...string) ([]byte, error) {
	if !strings.HasPrefix(name, "mkfs.") {
		return nil, nil
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
		w.mu.Lock()
		w.unheard--
		unheard := w.unheard == 0
		w.reboots = !unheard
		w.mu.Unlock()
		if unheard {
			<-ctx.Done()
			return context.Cause(ctx)
		}
	case "StartTransient":
		return playScript(w.root, c.Transient.Exec[1])
	}
	return nil
}

func (w *osWorld) parse(text string) *hostconfig.Config {
	w.t.Helper()
	c, report := hostconfig.Parse([]byte(text))
	if err := report.Err(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
