package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/loader"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/rebuild"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

const mirrors = `
image: {url: "file:///x.cosi", sha384: ignored}
storage:
  disks:
  - id: one
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - {id: esp-1, type: esp, size: 8M}
    - {id: root-1, type: root, size: 16M}
  - id: two
    device: /dev/sdb
    partitionTableType: gpt
    partitions:
    - {id: esp-2, type: esp, size: 8M}
    - {id: root-2, type: root, size: 16M}
    - {id: spare, type: linux-generic, size: grow}
  raid:
    software:
    - {id: esp, name: esp, level: raid1, devices: [esp-1, esp-2]}
    - {id: root, name: root, level: raid1, devices: [root-1, root-2]}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
`

const (
	diskSize  = 64 << 20
	datastore = "var/lib/trident/datastore.sqlite"
)

// world is a host with mirrors over two disks. The ESP is a folder with the boot loader of
// slot A.
type world struct {
	hosttest.Power
	t       testing.TB
	root    string // the folder with the datastore
	config  *hostconfig.Config
	disks   map[string]*blockdevtest.Memory // by their names
	probing sync.Mutex
	probed  map[string]probed // by the names of the disks
	arrays  *mdtest.Memory
	vars    *efivartest.Fake
	holders map[string]string // of partitions in use for other reasons
	bad     bool              // the next resync fails
	looks   int
	look    func() ([]md.State, error) // before a look at the arrays; if not nil, nil, in its place
	boots   int
	daemon  *process
}

type process struct {
	w       *world
	dead    bool
	store   *hoststate.Store
	runner  *operation.Runner
	host    *change.Host
	service *rebuild.Service
}

func newWorld(t testing.TB, text string) *world {
	w := &world{
		t: t, root: hosttest.TempDir(t), vars: &efivartest.Fake{}, holders: map[string]string{}, probed: map[string]probed{},
		disks: map[string]*blockdevtest.Memory{"sda": blockdevtest.New(diskSize, 512), "sdb": blockdevtest.New(diskSize, 512)},
	}
	w.arrays = &mdtest.Memory{Open: func(device string) (blockdev.Device, error) { return w.openIn(w.onDisks(), device) }}
	c, report := hostconfig.Parse([]byte(text), rules.Check)
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	w.config = c
	w.powerOn()
	w.install()
	return w
}

// install makes the disks, the arrays, the boot entries and the status.
func (w *world) install() {
	w.t.Helper()
	spec := w.config.Spec().Storage
	spec.RAID, spec.Filesystems = hostconfig.RAID{}, nil
	plan, err := storage.NewPlan(&spec, w.inventory(), storage.Request{For: storage.Install, Slot: slot.A, Seed: []byte("the seed of the installation"), Arch: "amd64"})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := plan.Apply(w.t.Context(), w.tools(), nil); err != nil {
		w.t.Fatal(err)
	}
	for i, r := range w.config.Spec().Storage.RAID.Software {
		a := md.Array{Name: r.Name, Level: md.Level(r.Level), UUID: md.UUID{0xaa, byte(i)}}
		for _, id := range r.Devices {
			a.Members = append(a.Members, w.device(plan.Paths()[id]))
		}
		if err := w.arrays.Create(w.t.Context(), a); err != nil {
			w.t.Fatal(err)
		}
	}
	for i, id := range []string{"esp-1", "esp-2"} {
		e := efivar.Entry{Number: efivar.Number(i), LoadOption: efivar.NewLoadOption("AZLA", efivar.HardDrive{Partition: w.guid(plan.Paths()[id])}, "/EFI/AZLA/bootx64.efi")}
		if err := efivar.SetEntry(w.vars, e); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := efivar.SetBootOrder(w.vars, []efivar.Number{0, 1}); err != nil {
		w.t.Fatal(err)
	}
	st := hoststate.Status{
		Phase: hoststate.Settled{}, Spec: string(w.config.YAML()), PartitionPaths: plan.Paths(), DiskUUIDs: plan.DiskUUIDs(), TridentVersion: "1.0.0",
	}
	if err := w.daemon.store.Record(w.t.Context(), st); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) guid(path string) gpt.GUID {
	w.t.Helper()
	id, err := gpt.ParseGUID(strings.TrimPrefix(path, "/dev/disk/by-partuuid/"))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// device returns the kernel's device of a durable path.
func (w *world) device(path string) string {
	w.t.Helper()
	p, ok := w.inventory().Partition(path)
	if !ok {
		w.t.Fatalf("there is no %s", path)
	}
	return p.Path
}

// inventory is what is on the disks, with its uses.
func (w *world) inventory() *blockdev.Inventory {
	inv := w.onDisks()
	list, err := w.arrays.Arrays(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range inv.Disks {
		for j := range inv.Disks[i].Partitions {
			p := &inv.Disks[i].Partitions[j]
			for _, a := range list {
				if slices.ContainsFunc(a.Members, func(m md.Member) bool { return m.Device == p.Path }) {
					p.Use.Holders = append(p.Use.Holders, a.Kernel)
				}
			}
			if h := w.holders[p.Path]; h != "" {
				p.Use.Holders = append(p.Use.Holders, h)
			}
		}
	}
	return inv
}

func (w *world) onDisks() *blockdev.Inventory {
	w.probing.Lock()
	defer w.probing.Unlock()
	inv := &blockdev.Inventory{}
	for _, name := range []string{"sda", "sdb", "sdc"} {
		disk := w.disks[name]
		if disk == nil {
			continue
		}
		if now := (content{disk, disk.Writes()}); w.probed[name].of != now {
			w.probed[name] = probed{now, probe(name, disk)}
		}
		d := w.probed[name].disk
		d.Partitions = slices.Clone(d.Partitions)
		inv.Disks = append(inv.Disks, d)
	}
	return inv
}

// content is what was on a disk after a number of writes.
type content struct {
	disk   *blockdevtest.Memory
	writes int
}

// probed is what probe found in a content.
type probed struct {
	of   content
	disk blockdev.Disk
}

func probe(name string, disk *blockdevtest.Memory) blockdev.Disk {
	d := blockdev.Disk{Name: name, Path: "/dev/" + name, Size: disk.Size(), SectorSize: disk.SectorSize(), Serial: "S-" + name}
	table, err := gpt.ReadDisk(disk, disk.Size(), disk.SectorSize())
	if err != nil || table == nil {
		d.Content = blockdev.Probe(disk, disk.Size())
		return d
	}
	d.Table, d.TableID, d.GPT = blockdev.TableGPT, table.ID.String(), table
	for _, e := range table.Entries {
		p := blockdev.Partition{
			Number: e.Number, Name: blockdev.PartitionName(name, e.Number), Offset: e.Offset, Size: e.Size,
			Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name, Links: []string{"/dev/disk/by-partuuid/" + e.ID.String()},
			Content: blockdev.Probe(io.NewSectionReader(disk, e.Offset, e.Size), e.Size),
		}
		p.Path = "/dev/" + p.Name
		d.Partitions = append(d.Partitions, p)
	}
	return d
}

func (w *world) open(path string, exclusive bool) (blockdev.Device, error) {
	inv := w.inventory()
	if p, ok := inv.Partition(path); ok && exclusive && p.Use.InUse() {
		return nil, errkind.Errorf(errkind.Precondition, "open %s: it is %s", path, p.Use)
	}
	return w.openIn(inv, path)
}

func (w *world) openIn(inv *blockdev.Inventory, path string) (blockdev.Device, error) {
	if disk := w.disks[filepath.Base(path)]; disk != nil {
		return disk, nil
	}
	p, ok := inv.Partition(path)
	if !ok {
		return nil, errkind.Errorf(errkind.NotFound, "open %s: there is no such device", path)
	}
	return w.disks[strings.TrimRight(filepath.Base(p.Path), "0123456789")].Part(p.Offset, p.Size), nil
}

// kernel is the md driver: it goes on with a resync while it is looked at.
type kernel struct {
	*mdtest.Memory
	w *world
}

func (k kernel) Arrays(ctx context.Context) ([]md.State, error) {
	if k.w.look != nil {
		if list, err := k.w.look(); list != nil || err != nil {
			return list, err
		}
	}
	list, err := k.Memory.Arrays(ctx)
	for _, a := range list {
		if a.Action != "recover" {
			continue
		}
		k.w.looks++
		switch i := slices.IndexFunc(a.Members, func(m md.Member) bool { return !m.InSync && !m.Faulty }); {
		case k.w.bad && k.w.looks%5 == 0:
			k.w.bad = false
			k.Fail(a.Members[i].Device)
		case k.w.looks%7 == 0:
			k.Sync()
		default:
			k.Advance()
		}
	}
	return list, err
}

func (w *world) tools() storage.Tools {
	return storage.Tools{
		Runner: run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, nil }),
		Open:   w.open, Await: func(context.Context, ...string) error { return nil }, Arrays: kernel{w.arrays, w},
	}
}

// Mount implements mount.Mounter for the ESP.
func (w *world) Mount(f mount.FileSystem, on *os.File) error {
	if f.Source != "/dev/md/esp" {
		return fmt.Errorf("mount %s", f.Source)
	}
	dir := filepath.Join(on.Name(), "EFI/AZLA")
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "bootx64.efi"), nil, 0o644))
}

// Unmount implements mount.Mounter.
func (w *world) Unmount(at string) error { return os.RemoveAll(filepath.Join(at, "EFI")) }

func (w *world) powerOn() {
	w.boots++
	p := &process{w: w}
	var err error
	if p.store, err = hoststate.Open(context.Background(), filepath.Join(w.root, datastore)); err != nil {
		w.t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	p.runner = operation.New(context.Background(), operation.Config{Journal: p.store, Life: operation.Life{Boot: fmt.Sprint(w.boots), Process: fmt.Sprint(w.boots)}, Logger: logger})
	p.host = change.New(change.Host{
		Root: w.root, Version: "1.0.0", Runner: p.runner, Store: p.store, Systemd: &systemdtest.Fake{}, Logger: logger,
		Touch: func(name string, change func() error) error { return w.touch(p, name, change) },
	})
	m := machine.Machine{
		Inventory: func() (*blockdev.Inventory, error) { return w.inventory(), nil },
		Disks:     w.tools(), Mounts: w, Firmware: func() (efivar.Store, error) { return w.vars, nil }, Arch: "amd64",
	}
	p.service = rebuild.New(&loader.Loader{Host: p.host, Machine: m})
	p.service.Register()
	w.Mu.Lock()
	w.daemon = p
	w.Mu.Unlock()
	if err := p.runner.Resume(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) touch(p *process, name string, change func() error) error {
	by := hosttest.Toucher{IsDead: func() bool { return p.dead }, Cut: func() { w.cut(p) }, Datastore: filepath.Join(w.root, datastore)}
	return w.Touch(by, name, change)
}

// cut switches the power off. The disks keep what they had on the medium, and of the rest
// what chance leaves. The caller holds w.Mu.
func (w *world) cut(p *process) {
	p.dead = true
	for name, disk := range w.disks {
		w.disks[name] = disk.Crash(rand.New(rand.NewPCG(uint64(w.Touches), 7)))
	}
	root := hosttest.TempDir(w.t)
	if err := errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(datastore)), 0o700), p.store.Snapshot(context.Background(), filepath.Join(root, datastore))); err != nil {
		w.t.Error(err)
	}
	w.root = root
}

func (w *world) stop() {
	if err := errors.Join(w.daemon.runner.Shutdown(context.Background()), w.daemon.store.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) status() hoststate.Status {
	w.t.Helper()
	st, err := w.daemon.store.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// rebuild runs the operation to its end, over power cuts.
func (w *world) rebuild() operation.Operation {
	w.t.Helper()
	var op *operation.Operation
	for op == nil {
		if err := w.begin(); err != nil && !w.daemon.dead {
			w.t.Fatal(err)
		}
		op = w.settled()
	}
	return *op
}

func (w *world) begin() error {
	st, err := w.daemon.host.State(context.Background())
	if err != nil {
		return err
	}
	start, err := w.daemon.service.Rebuild(st)
	if err == nil {
		_, err = start(context.Background())
	}
	return err
}

// settled waits until the newest operation is over, and switches the power on when it is
// off; nil if there is no operation.
func (w *world) settled() *operation.Operation {
	w.t.Helper()
	for range 2000 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		w.Mu.Lock()
		dead := w.daemon.dead
		w.Mu.Unlock()
		if dead {
			w.stop()
			w.powerOn()
			continue
		}
		ops, err := w.daemon.runner.List(context.Background(), 1, false)
		switch {
		case err != nil:
			w.t.Fatal(err)
		case len(ops) == 0:
			return nil
		case ops[0].Phase.Settled():
			return &ops[0]
		}
	}
	w.t.Fatalf("never settled\ntouches: %v", w.Trace)
	return nil
}

// logs returns what an operation has logged.
func (w *world) logs(id string) string {
	w.t.Helper()
	events, err := w.daemon.store.Events(context.Background(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, e.Message)
	}
	return strings.Join(out, "\n")
}
