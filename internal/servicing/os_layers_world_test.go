package servicing

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/luks/lukstest"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/linux/md/mdtest"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
)

// layers are the second disk of a machine with its arrays, and the encrypted volumes with the
// TPM. Each may be missing.
type layers struct {
	second *blockdevtest.Memory
	pulled string // the disk that is not in the machine
	arrays *mdtest.Memory
	looks  int // at arrays that copy
	luks   *lukstest.Fake
	crypt  map[string]luks.Volume // that were ever made, by names, with their durable devices
	chip   *tpmtest.Chip
}

const (
	secondDisk  = "/dev/vdc"
	layeredSize = 192 << 20
	luksData    = 16 << 20  // the offset of the data of an encrypted volume
	arrayEnd    = 128 << 10 // bytes at the end of a member that are not data
	theKey      = "the-recovery-key-of-this-host"
)

// newLayeredWorld is a machine with two disks, or with a TPM, or with both.
func newLayeredWorld(w *osWorld, disks, encrypted bool) *osWorld {
	w.disk = blockdevtest.New(layeredSize, 512)
	if disks {
		w.second = blockdevtest.New(layeredSize, 512)
	}
	if encrypted {
		w.luks, w.crypt = &lukstest.Fake{}, map[string]luks.Volume{}
		write(w.t, filepath.Join(w.live, "root/recovery.key"), theKey)
		if err := os.Chmod(filepath.Join(w.live, "root/recovery.key"), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return w
}

// copied are the layers at rest.
func (l layers) copied() layers {
	out := layers{pulled: l.pulled, crypt: maps.Clone(l.crypt)}
	if l.second != nil {
		out.second = l.second.Crash(rand.New(rand.NewPCG(1, 1)))
	}
	if l.luks != nil {
		out.luks = l.luks.Copy()
	}
	return out
}

// diskPaths returns the disks that are in the machine.
func (w *osWorld) diskPaths() []string {
	out := []string{theDisk}
	if w.second != nil {
		out = append(out, secondDisk)
	}
	return slices.DeleteFunc(out, func(d string) bool { return d == w.pulled })
}

// diskOf returns the disk with a device.
func (w *osWorld) diskOf(device string) *blockdevtest.Memory {
	if strings.HasPrefix(device, secondDisk) {
		return w.second
	}
	return w.disk
}

// assemble is what a boot does with arrays and encrypted volumes: it runs the arrays that
// have a member in sync, and all volumes are closed.
func (w *osWorld) assemble() {
	touch := func(name string, change func() error) error { return w.touch(w.daemon, name, change) }
	if w.luks != nil {
		w.luks, w.chip = w.luks.Copy(), &tpmtest.Chip{}
		w.luks.Touch, w.luks.Registers = touch, func() map[int][]byte { return w.chip.All() }
		if err := w.chip.Boot(tpmtest.NewBoot(w.t, "live", "live")); err != nil {
			w.t.Fatal(err)
		}
	}
	if w.second == nil {
		return
	}
	w.arrays = &mdtest.Memory{Touch: touch, Open: func(device string) (blockdev.Device, error) {
		p, ok := w.onDisks().Partition(device)
		if !ok {
			return nil, errkind.Errorf(errkind.NotFound, "open %s: there is no such device", device)
		}
		return w.diskOf(p.Path).Part(p.Offset, p.Size), nil
	}}
	var members []string
	for _, d := range w.onDisks().Disks {
		for _, p := range d.Partitions {
			if p.Content.Type == "linux_raid_member" {
				members = append(members, p.Path)
			}
		}
	}
	if err := w.arrays.Assemble(members...); err != nil {
		w.t.Fatal(err)
	}
}

// stack adds the arrays and the open volumes to an inventory.
func (w *osWorld) stack(inv *blockdev.Inventory) {
	if w.arrays != nil {
		list, err := w.arrays.Arrays(context.Background())
		if err != nil {
			w.t.Error(err)
		}
		for _, st := range list {
			o := blockdev.Other{Name: st.Kernel, Path: "/dev/" + st.Kernel, Links: []string{md.Folder + st.Name}, Is: blockdev.Array,
				Label: st.Name, UUID: gpt.GUID(st.UUID).String(), Level: string(st.Level)}
			for _, m := range st.Members {
				if p, ok := inv.Partition(m.Device); ok {
					p.Use.Holders = append(p.Use.Holders, o.Name)
					o.Over, o.Size = append(o.Over, p.Name), p.Size-arrayEnd
				}
			}
			w.add(inv, o)
		}
	}
	if w.luks == nil {
		return
	}
	opened := w.luks.Opened()
	for _, name := range slices.Sorted(maps.Keys(opened)) {
		below, ok := inv.Node(w.crypt[name].Device)
		if !ok {
			continue
		}
		o := blockdev.Other{Name: "dm-" + name, Path: "/dev/dm-" + name, Links: []string{"/dev/mapper/" + name}, Is: blockdev.Encrypted,
			Over: []string{path.Base(below.Path)}, Label: name, UUID: opened[name], Size: below.Size - luksData}
		if p, ok := inv.Partition(below.Path); ok {
			p.Use.Holders = append(p.Use.Holders, o.Name)
		} else if b, ok := inv.Other(below.Path); ok {
			b.Use.Holders = append(b.Use.Holders, o.Name)
		}
		w.add(inv, o)
	}
}

func (w *osWorld) add(inv *blockdev.Inventory, o blockdev.Other) {
	inv.Others = append(inv.Others, o)
	last := &inv.Others[len(inv.Others)-1]
	last.Content = blockdev.Probe(w.deviceIn(inv, o.Path), o.Size)
}

// use is the use of a device; devices are that device and all devices above it.
type use struct {
	*blockdev.Use
	devices []string
}

func uses(inv *blockdev.Inventory) []use {
	var above func(name string) []string
	above = func(name string) []string {
		out := []string{"/dev/" + name}
		for _, o := range inv.Others {
			if slices.Contains(o.Over, name) {
				out = append(out, above(o.Name)...)
			}
		}
		return out
	}
	var out []use
	for i := range inv.Disks {
		for j := range inv.Disks[i].Partitions {
			p := &inv.Disks[i].Partitions[j]
			out = append(out, use{&p.Use, above(p.Name)})
		}
	}
	for i := range inv.Others {
		o := &inv.Others[i]
		out = append(out, use{&o.Use, above(o.Name)})
	}
	return out
}

// deviceIn returns the partition, the array, or the open volume of an inventory with that
// device file.
func (w *osWorld) deviceIn(inv *blockdev.Inventory, file string) blockdev.Device {
	if p, ok := inv.Partition(file); ok {
		return w.diskOf(p.Path).Part(p.Offset, p.Size)
	}
	o, ok := inv.Other(file)
	if !ok {
		w.t.Fatalf("no device %s\ntouches: %v", file, w.Trace)
	}
	if o.Is == blockdev.Encrypted {
		return section{w.deviceIn(inv, "/dev/"+o.Over[0]), luksData, o.Size}
	}
	m := mirror{}
	for _, d := range w.arrays.InSync(o.Name) {
		if p, ok := inv.Partition(d); ok {
			m.all = append(m.all, w.diskOf(p.Path).Part(p.Offset, p.Size))
		}
	}
	if len(m.all) == 0 {
		w.t.Fatalf("%s has no member in sync\ntouches: %v", file, w.Trace)
	}
	m.Device = m.all[0]
	return section{m, 0, o.Size}
}

// mirror reads one member, and writes all.
type mirror struct {
	blockdev.Device
	all []blockdev.Device
}

func (m mirror) each(do func(blockdev.Device) error) (err error) {
	for _, d := range m.all {
		err = errors.Join(err, do(d))
	}
	return err
}

func (m mirror) WriteAt(p []byte, off int64) (n int, err error) {
	err = m.each(func(d blockdev.Device) (err error) { n, err = d.WriteAt(p, off); return err })
	return n, err
}

func (m mirror) Discard(off, n int64) error {
	return m.each(func(d blockdev.Device) error { return d.Discard(off, n) })
}

func (m mirror) Sync() error { return m.each(blockdev.Device.Sync) }

// section is a part of a device.
type section struct {
	blockdev.Device
	at, size int64
}

func (s section) Size() int64 { return s.size }

func (s section) ReadAt(p []byte, off int64) (int, error) {
	return s.Device.ReadAt(p[:min(int64(len(p)), max(0, s.size-off))], s.at+off)
}

func (s section) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d: the device ends at %d", len(p), off, s.size)
	}
	return s.Device.WriteAt(p, s.at+off)
}

func (s section) Discard(off, n int64) error { return s.Device.Discard(s.at+off, min(n, s.size-off)) }

// firmwareESP returns the EFI system partition that the firmware boots from: of those that it
// reads, which are FAT, and may be members of an array, the first in its order.
func (w *osWorld) firmwareESP(inv *blockdev.Inventory) (blockdev.Partition, bool) {
	var all []blockdev.Partition
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			b := make([]byte, 8)
			_, _ = w.diskOf(p.Path).Part(p.Offset, p.Size).ReadAt(b, 82)
			if strings.HasPrefix(p.Label, "esp") && string(b) == "FAT32   " {
				all = append(all, p)
			}
		}
	}
	if len(all) == 0 {
		return blockdev.Partition{}, false
	}
	order, err := efivar.BootOrder(w.vars)
	next, once, nerr := efivar.BootNext(w.vars)
	entries, eerr := efivar.Entries(w.vars)
	if err := errors.Join(err, nerr, eerr); err != nil {
		w.t.Fatal(err)
	}
	if once {
		order = append([]efivar.Number{next}, order...)
	}
	for _, n := range order {
		for _, e := range entries {
			disk, _, _ := e.Location()
			i := slices.IndexFunc(all, func(p blockdev.Partition) bool { return strings.EqualFold(p.UUID, disk.Partition.String()) })
			if e.Number == n && i >= 0 {
				return all[i], true
			}
		}
	}
	return all[0], true
}

// node returns the array, or else the partition, with a name.
func (w *osWorld) node(name string) (blockdev.Node, bool) {
	inv := w.inventory()
	if n, ok := inv.Node(md.Folder + name); ok {
		return n, true
	}
	p, ok := findLabel(inv, name)
	if !ok {
		return blockdev.Node{}, false
	}
	return inv.Node(p.Path)
}

// unlock has the TPM measure the boot of the kernel uname from an ESP, and opens the encrypted
// volumes. It fails the test if a person has to type a recovery key.
func (w *osWorld) unlock(esp, uname string) {
	if w.luks == nil {
		return
	}
	w.t.Helper()
	w.chip = &tpmtest.Chip{}
	loader := w.loaderThatBooted(esp)
	if err := w.chip.Boot(tpm.Boot{Loader: tpmtest.Open(w.t, loader), UKI: tpmtest.Open(w.t, w.ukiOf(esp, uname))}); err != nil {
		w.t.Fatal(err)
	}
	log, err := w.chip.Log(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	at := tpmtest.With(w.chip.All(), log.Until(tpm.AfterUnlock).Replay())
	for _, name := range slices.Sorted(maps.Keys(w.crypt)) {
		v := w.crypt[name]
		if w.isEncrypted(v.Device) && !w.luks.Unlock(v, at) {
			head, err := w.luks.Header(context.Background(), v.Device)
			w.t.Fatalf("boot %d, of %v with the kernel %s by the loader %q, asks for the recovery key of %s: %+v, %v\ntouches: %v",
				w.boots, w.slot, uname, bytes.TrimRight(loader[max(0, len(loader)-512):], "\x00"), name, head, err, w.Trace)
		}
	}
}

// loaderThatBooted returns the program that the firmware has started.
func (w *osWorld) loaderThatBooted(esp string) []byte {
	file := "EFI/BOOT/bootx64.efi"
	v, err := w.vars.Get(efivar.Name{Name: "BootCurrent", Vendor: efivar.Global})
	if err == nil {
		entries, err := efivar.Entries(w.vars)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			if e.Number == efivar.Number(binary.LittleEndian.Uint16(v.Data)) {
				_, file, _ = e.Location()
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(esp, file))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *osWorld) ukiOf(esp, uname string) []byte {
	found, err := filepath.Glob(filepath.Join(esp, "EFI/Linux/*.efi"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range found {
		data, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		if u, err := boot.ReadUKI(bytes.NewReader(data), int64(len(data))); err == nil && u.Uname == uname {
			return data
		}
	}
	w.t.Fatalf("no UKI has the kernel %s", uname)
	return nil
}

// mountData mounts the encrypted data of the system that boots.
func (w *osWorld) mountData() {
	if n, ok := w.inventory().Node("/dev/mapper/data"); ok {
		w.mount(n.Path, filepath.Join(w.root, "data"))
	}
}

func (w *osWorld) isEncrypted(device string) bool {
	inv := w.inventory()
	n, ok := inv.Node(device)
	return ok && n.Content.Type == "crypto_LUKS"
}

// durable returns the path of a device that stays the same over reboots.
func (w *osWorld) durable(device string) string {
	inv := w.inventory()
	if p, ok := inv.Partition(device); ok {
		return "/dev/disk/by-partuuid/" + p.UUID
	}
	if o, ok := inv.Other(device); ok {
		return o.Links[0]
	}
	return device
}

// volumes are the encrypted volumes of the machine; nil if it has none.
func (w *osWorld) volumes() luks.Manager {
	if w.luks == nil {
		return nil
	}
	return worldVolumes{w}
}

// worldVolumes are encrypted volumes whose headers are in memory, and which show as such on
// the disks.
type worldVolumes struct{ w *osWorld }

func (m worldVolumes) of(v luks.Volume) luks.Volume {
	v.Device = m.w.durable(v.Device)
	return v
}

func (m worldVolumes) Format(ctx context.Context, v luks.Volume, key luks.Key) error {
	v = m.of(v)
	if err := m.w.luks.Format(ctx, v, key); err != nil {
		return err
	}
	m.w.crypt[v.Name] = v
	head := make([]byte, 4096)
	copy(head, "LUKS\xba\xbe")
	copy(head[168:], v.UUID)
	dev, err := m.w.open(v.Device, true)
	if err != nil {
		return err
	}
	_, err = dev.WriteAt(head, 0)
	return errors.Join(err, dev.Sync())
}

func (m worldVolumes) Header(ctx context.Context, device string) (luks.Header, error) {
	if !m.w.isEncrypted(device) {
		return luks.Header{}, errkind.Errorf(errkind.NotFound, "%s has no LUKS2 header", device)
	}
	return m.w.luks.Header(ctx, m.w.durable(device))
}

func (m worldVolumes) Open(ctx context.Context, v luks.Volume, key luks.Key) error {
	if !m.w.isEncrypted(v.Device) {
		return errkind.Errorf(errkind.NotFound, "%s has no LUKS2 header", v.Device)
	}
	return m.w.luks.Open(ctx, m.of(v), key)
}

func (m worldVolumes) Close(ctx context.Context, v luks.Volume) error { return m.w.luks.Close(ctx, v) }

func (m worldVolumes) Test(ctx context.Context, v luks.Volume, key luks.Key) error {
	return m.w.luks.Test(ctx, m.of(v), key)
}

func (m worldVolumes) Enroll(ctx context.Context, v luks.Volume, key luks.Key, to luks.Binding) (int, error) {
	return m.w.luks.Enroll(ctx, m.of(v), key, to)
}

func (m worldVolumes) Wipe(ctx context.Context, v luks.Volume, token int) error {
	return m.w.luks.Wipe(ctx, m.of(v), token)
}

func (m worldVolumes) KillSlot(ctx context.Context, v luks.Volume, n int) error {
	return m.w.luks.KillSlot(ctx, m.of(v), n)
}

// manager are the arrays of the machine; nil if it has one disk.
func (w *osWorld) manager() md.Manager {
	if w.arrays == nil {
		return nil
	}
	return driver{w.arrays, w}
}

// driver is the md driver: it goes on with a resync while Trident looks at it.
type driver struct {
	*mdtest.Memory
	w *osWorld
}

func (d driver) Arrays(ctx context.Context) ([]md.State, error) {
	list, err := d.Memory.Arrays(ctx)
	if !slices.ContainsFunc(list, func(a md.State) bool { return a.Action == "recover" }) {
		return list, err
	}
	if d.w.looks++; d.w.looks%3 != 0 {
		d.Advance()
		return list, err
	}
	inv := d.w.onDisks()
	part := func(device string) blockdev.Device {
		p, ok := inv.Partition(device)
		if !ok {
			d.w.t.Fatalf("%s is gone", device)
		}
		return d.w.diskOf(p.Path).Part(p.Offset, p.Size)
	}
	buf := make([]byte, 1<<20)
	for _, a := range list {
		from := d.InSync(a.Name)
		for _, m := range a.Members {
			if m.InSync || m.Faulty || m.Slot < 0 {
				continue
			}
			src, dst := part(from[0]), part(m.Device)
			for at := int64(0); at < src.Size()-arrayEnd; at += int64(len(buf)) {
				b := buf[:min(int64(len(buf)), src.Size()-arrayEnd-at)]
				_, rerr := src.ReadAt(b, at)
				_, werr := dst.WriteAt(b, at)
				err = errors.Join(err, rerr, werr)
			}
			err = errors.Join(err, dst.Sync())
		}
	}
	d.Sync()
	return list, err
}

func (w *osWorld) makeSwap(args []string) error {
	dev, err := w.open(args[len(args)-1], true)
	if err != nil {
		return err
	}
	head := make([]byte, 4096)
	copy(head[4096-10:], "SWAPSPACE2")
	if i := slices.Index(args, "-U"); i >= 0 {
		id, err := gpt.ParseGUID(args[i+1])
		if err != nil {
			return err
		}
		raw, err := blockdevUUID(id)
		if err != nil {
			return err
		}
		copy(head[1036:], raw)
	}
	_, err = dev.WriteAt(head, 0)
	return err
}

// blockdevUUID returns the bytes of a UUID in the order of its text.
func blockdevUUID(id gpt.GUID) ([]byte, error) {
	var raw []byte
	_, err := fmt.Sscanf(strings.ReplaceAll(id.String(), "-", ""), "%x", &raw)
	return raw, err
}
