package servicing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/mount"
)

// inventory is what the kernel sees.
func (w *osWorld) inventory() *blockdev.Inventory {
	inv := w.onDisks()
	w.stack(inv)
	for _, use := range uses(inv) {
		for _, m := range w.mounts {
			if rel, err := filepath.Rel(w.root, m.at); slices.Contains(use.devices, m.device) && err == nil {
				use.Mounts = append(use.Mounts, filepath.Clean("/"+rel))
			}
		}
		if slices.Contains(w.opened, use.devices[0]) {
			use.Holders = append(use.Holders, "dm-0")
		}
	}
	return inv
}

// onDisks is the disks with their partitions, without uses.
func (w *osWorld) onDisks() *blockdev.Inventory {
	w.probe.Lock()
	defer w.probe.Unlock()
	if w.probed == nil {
		w.probed, w.found = map[string]probed{}, map[string]blockdev.Disk{}
	}
	inv := &blockdev.Inventory{}
	for _, path := range w.diskPaths() {
		disk := w.diskOf(path)
		if at := (probed{disk, disk.Writes()}); w.probed[path] != at { // else nothing has changed since
			w.found[path], w.probed[path] = probeDisk(path, disk), at
		}
		d := w.found[path]
		d.Partitions = slices.Clone(d.Partitions)
		inv.Disks = append(inv.Disks, d)
	}
	return inv
}

// probed is a content of a disk.
type probed struct {
	disk   *blockdevtest.Memory
	writes int
}

func probeDisk(path string, disk *blockdevtest.Memory) blockdev.Disk {
	d := blockdev.Disk{Name: filepath.Base(path), Path: path, Size: disk.Size(), SectorSize: disk.SectorSize()}
	table, err := gpt.ReadDisk(disk, disk.Size(), disk.SectorSize())
	if err != nil || table == nil {
		return d
	}
	d.Table, d.TableID, d.GPT = blockdev.TableGPT, table.ID.String(), table
	for _, e := range table.Entries {
		p := blockdev.Partition{
			Number: e.Number, Name: blockdev.PartitionName(d.Name, e.Number), Offset: e.Offset, Size: e.Size,
			Type: e.Type.String(), UUID: e.ID.String(), Label: e.Name, Links: []string{"/dev/disk/by-partuuid/" + e.ID.String()},
			Content: blockdev.Probe(io.NewSectionReader(disk, e.Offset, e.Size), e.Size),
		}
		p.Path = "/dev/" + p.Name
		d.Partitions = append(d.Partitions, p)
	}
	return d
}

// open is blockdev.Open.
func (w *osWorld) open(path string, exclusive bool) (blockdev.Device, error) {
	if slices.Contains(w.diskPaths(), path) {
		return w.diskOf(path), nil
	}
	inv := w.inventory()
	n, ok := inv.Node(path)
	if !ok {
		return nil, errkind.Errorf(errkind.NotFound, "open %s: there is no such device", path)
	}
	if exclusive && n.Use.InUse() {
		return nil, errkind.Errorf(errkind.Precondition, "open %s: it is %s", path, n.Use)
	}
	part := w.deviceIn(inv, n.Path)
	if p, ok := inv.Partition(n.Path); ok && w.onWrite != nil {
		return watched{part, func(off int64) error { return w.onWrite(p.Label, off) }}, nil
	}
	return part, nil
}

// watched is a partition that calls before ahead of each write, with its offset in the
// partition, and fails the write with the error of before.
type watched struct {
	blockdev.Device
	before func(off int64) error
}

func (d watched) WriteAt(b []byte, off int64) (int, error) {
	if err := d.before(off); err != nil {
		return 0, err
	}
	return d.Device.WriteAt(b, off)
}

// Mount implements mount.Mounter.
func (w *osWorld) Mount(f mount.FileSystem, on *os.File) error {
	if f.Type == "tmpfs" || f.Type == "proc" || f.Type == mount.Bind {
		return nil
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", on.Fd()))
	if err != nil {
		return err
	}
	if f.Type == "overlay" {
		return w.mountOverlay(f.Options, at)
	}
	p, ok := w.inventory().Node(f.Source)
	if !ok {
		return errkind.Errorf(errkind.NotFound, "mount %s: there is no such device", f.Source)
	}
	w.mount(p.Path, at)
	if f.ReadOnly {
		w.seal()
	}
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
	w.mounts = append(w.mounts, mounted{device: device, at: at})
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
		if m.lower != "" { // the files below it are there again
			continue
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
			return hosttest.MkdirAll(there)
		}
		data, err := os.ReadFile(file)
		return errors.Join(err, os.WriteFile(there, data, 0o600))
	})
	if err != nil {
		w.t.Error(err)
	}
}

func (w *osWorld) unpack(device, at string) {
	inv := w.inventory()
	n, ok := inv.Node(device)
	if !ok {
		w.t.Fatalf("no device %s\ntouches: %v", device, w.Trace)
	}
	w.unpackFrom(w.deviceIn(inv, n.Path), device, at)
}

// unpackFrom unpacks the file system on a device.
func (w *osWorld) unpackFrom(r io.ReaderAt, device, at string) {
	var size [8]byte
	if _, err := r.ReadAt(size[:], headSize); err != nil {
		w.t.Fatal(err)
	}
	if err := untar(io.NewSectionReader(r, headSize+8, int64(binary.LittleEndian.Uint64(size[:]))), at); err != nil {
		w.t.Fatalf("mount %s: %v\ntouches: %v", device, err, w.Trace)
	}
}

// pack writes a folder back to its device.
func (w *osWorld) pack(m mounted) {
	switch {
	case m.lower != "":
		w.packOverlay(m)
		return
	case m.readOnly:
		if got := treeSum(w.t, m.at); w.on && m.at != w.root && got != m.sum {
			w.t.Errorf("a file system that is mounted read-only has changed: was\n%s\nis\n%s\ntouches: %v", m.sum, got, w.Trace)
		}
		return
	}
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
	dev := w.deviceIn(w.inventory(), m.device)
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

// tree is the files in an image, as the kernel shows them.
func (w *osWorld) tree(image *os.File, _ string) (string, func() error, error) {
	if w.noTree != nil {
		return "", nil, w.noTree
	}
	dir := tempDir(w.t)
	var size [8]byte
	if _, err := image.ReadAt(size[:], headSize); err != nil {
		return "", nil, err
	}
	err := untar(io.NewSectionReader(image, headSize+8, int64(binary.LittleEndian.Uint64(size[:]))), dir)
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// espNow is the EFI system partition as it is on the disk. A FAT has all of its partition
// for files here.
func (w *osWorld) espNow(device string) (fs.FS, boot.Space, func() error, error) {
	p, ok := w.inventory().Node(device)
	if !ok {
		return nil, boot.Space{}, nil, errkind.Errorf(errkind.NotFound, "open %s: there is no such device", device)
	}
	dir, err := os.MkdirTemp(w.live, "esp")
	if err != nil {
		return nil, boot.Space{}, nil, err
	}
	w.unpack(device, dir)
	room := boot.Space{Free: p.Size, Block: 512}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			room.Free -= (info.Size() + 511) / 512 * 512
		}
		return err
	})
	return os.DirFS(dir), room, func() error { return os.RemoveAll(dir) }, err
}
