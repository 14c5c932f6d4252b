package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/md"
)

// layered are the arrays that run on a bench and the volumes that are open, by the names
// of their devices.
type layered struct {
	b       *bench
	arrays  map[string]md.Array
	volumes map[string]luks.Volume
	syncing int    // how often Arrays still says that the arrays copy
	quick   string // the name of one that does not
	asked   func() // called by Arrays
	failAt  string // a member at which Create fails once
}

func newLayered(b *bench) *layered {
	return &layered{b: b, arrays: map[string]md.Array{}, volumes: map[string]luks.Volume{}}
}

// superblockAt is the place of a superblock of version 1.0.
func superblockAt(size int64) int64 { return (size/512 - 16) &^ 7 * 512 }

func keyOf(id string) (luks.Key, error) { return luks.Key("the key of " + id), nil }

// holders returns the names of the devices directly on a partition or array.
func (l *layered) holders(path string) (out []string) {
	for name, a := range l.arrays {
		if slices.Contains(a.Members, path) {
			out = append(out, name)
		}
	}
	for name, v := range l.volumes {
		if v.Device == path || l.kernelPath(v.Device) == path {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// kernelPath returns the device file of an array by its link.
func (l *layered) kernelPath(path string) string {
	for name, a := range l.arrays {
		if a.Device() == path {
			return "/dev/" + name
		}
	}
	return path
}

func (l *layered) open(path string) (blockdev.Device, bool, error) {
	for name, a := range l.arrays {
		if path == a.Device() || path == "/dev/"+name {
			m, err := l.mirror(a)
			return m, true, err
		}
	}
	for name, v := range l.volumes {
		if path == v.Mapped() || path == "/dev/"+name {
			dev, err := l.b.open(v.Device, false)
			if err != nil {
				return nil, true, err
			}
			return window{dev, luksHeader, dev.Size() - luksHeader}, true, nil
		}
	}
	return nil, false, nil
}

// mirror is a device of raid1.
type mirror struct {
	blockdev.Device // the first member
	members         []blockdev.Device
}

func (l *layered) mirror(a md.Array) (blockdev.Device, error) {
	var m mirror
	for _, path := range a.Members {
		dev, err := l.b.open(path, false)
		if err != nil {
			return nil, err
		}
		m.members = append(m.members, window{dev, 0, superblockAt(dev.Size())})
	}
	m.Device = m.members[0]
	return m, nil
}

func (m mirror) WriteAt(p []byte, at int64) (n int, err error) {
	for _, d := range m.members {
		if n, err = d.WriteAt(p, at); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (m mirror) Sync() error {
	var errs []error
	for _, d := range m.members {
		errs = append(errs, d.Sync())
	}
	return errors.Join(errs...)
}

// window is a part of a device.
type window struct {
	blockdev.Device
	from, size int64
}

func (w window) Size() int64 { return w.size }

func (w window) ReadAt(p []byte, at int64) (int, error) {
	return io.NewSectionReader(w.Device, w.from, w.size).ReadAt(p, at)
}

func (w window) WriteAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > w.size {
		return 0, fmt.Errorf("write behind the end")
	}
	return w.Device.WriteAt(p, w.from+at)
}

// Create implements md.Manager. As mdadm(8) does, it refuses members in use, and needs
// nothing of what they contain.
func (l *layered) Create(_ context.Context, a md.Array) error {
	if len(l.arrays) > 99 || a.Level != md.RAID1 {
		return fmt.Errorf("no array %+v here", a)
	}
	for _, path := range a.Members {
		if held := l.holders(path); len(held) > 0 {
			return fmt.Errorf("%s is held by %v", path, held)
		}
	}
	for _, path := range a.Members {
		if path == l.failAt {
			return errCut
		}
		dev, err := l.b.open(path, true)
		if err != nil {
			return err
		}
		b := make([]byte, 4096)
		binary.LittleEndian.PutUint32(b, 0xa92b4efc)
		binary.LittleEndian.PutUint32(b[4:], 1)
		copy(b[16:], a.UUID[:])
		copy(b[32:64], "any:"+a.Name)
		if _, err := dev.WriteAt(b, superblockAt(dev.Size())); err != nil {
			return err
		}
		if err := dev.Sync(); err != nil {
			return err
		}
	}
	l.start(a)
	return nil
}

func (l *layered) start(a md.Array) { l.arrays[fmt.Sprintf("md%d", 127-len(l.arrays))] = a }

// assemble starts the arrays whose superblocks are on the disks, degraded ones too, as udev does.
func (l *layered) assemble(inv *blockdev.Inventory) {
	found := map[string]md.Array{}
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			if id, err := gpt.ParseGUID(p.Content.UUID); err == nil && p.Content.Type == "linux_raid_member" {
				a := found[p.Content.UUID]
				a.Name, a.UUID, a.Level = strings.TrimPrefix(p.Content.Label, "any:"), md.UUID(id), md.RAID1
				a.Members = append(a.Members, p.Path)
				found[p.Content.UUID] = a
			}
		}
	}
	for _, a := range found {
		l.start(a)
	}
}

// Stop implements md.Manager.
func (l *layered) Stop(_ context.Context, id md.UUID) error {
	for name, a := range l.arrays {
		if a.UUID != id {
			continue
		}
		if held := l.holders("/dev/" + name); len(held) > 0 {
			return fmt.Errorf("%s is held by %v", name, held)
		}
		delete(l.arrays, name)
	}
	return nil
}

// Arrays implements md.Manager.
func (l *layered) Arrays(context.Context) ([]md.State, error) {
	var out []md.State
	l.syncing--
	if l.asked != nil {
		l.asked()
	}
	for name, a := range l.arrays {
		s := md.State{Kernel: name, UUID: a.UUID, Name: a.Name, Level: a.Level, Slots: len(a.Members), Action: "idle"}
		if l.syncing >= 0 && a.Name != l.quick {
			s.Action, s.Done, s.Total = "resync", mib, 4*mib
		}
		out = append(out, s)
	}
	return out, nil
}

// Add and Remove implement md.Manager; no plan needs them.
func (l *layered) Add(context.Context, md.UUID, string) error    { return errors.New("not here") }
func (l *layered) Remove(context.Context, md.UUID, string) error { return errors.New("not here") }

// volumes implements luks.Manager.
type volumes struct {
	luks.Manager
	*layered
}

func (v volumes) Format(_ context.Context, of luks.Volume, key luks.Key) error {
	if held := v.holders(v.kernelPath(of.Device)); len(held) > 0 {
		return fmt.Errorf("%s is held by %v", of.Device, held)
	}
	dev, err := v.b.open(of.Device, true)
	if err != nil {
		return err
	}
	b := make([]byte, 4096)
	copy(b, "LUKS\xba\xbe")
	copy(b[168:], of.UUID)
	copy(b[512:], key)
	_, err = dev.WriteAt(b, 0)
	return errors.Join(err, dev.Sync())
}

func (v volumes) Open(_ context.Context, of luks.Volume, key luks.Key) error {
	for _, open := range v.layered.volumes {
		if open.Name == of.Name {
			if open.UUID != of.UUID {
				return fmt.Errorf("%s is another volume", of.Mapped())
			}
			return nil
		}
	}
	dev, err := v.b.open(of.Device, true)
	if err != nil {
		return err
	}
	head := make([]byte, 4096)
	if _, err := dev.ReadAt(head, 0); err != nil {
		return err
	}
	if c := blockdev.Probe(dev, dev.Size()); c.Type != "crypto_LUKS" || c.UUID != of.UUID || !bytes.HasPrefix(head[512:], append(bytes.Clone(key), 0)) {
		return errkind.Errorf(errkind.NotFound, "%s has %+v, which the key does not open", of.Device, c)
	}
	v.layered.volumes[fmt.Sprintf("dm-%d", len(v.layered.volumes))] = of
	return nil
}

func (v volumes) Close(_ context.Context, of luks.Volume) error {
	for name, open := range v.layered.volumes {
		if open.Name == of.Name {
			delete(v.layered.volumes, name)
		}
	}
	return nil
}

// others returns what an inventory has of the layers.
func (l *layered) others() (out []blockdev.Other) {
	for name, a := range l.arrays {
		o := blockdev.Other{Name: name, Path: "/dev/" + name, Links: []string{a.Device()}, Is: blockdev.Array, Label: a.Name, UUID: gpt.GUID(a.UUID).String(), Level: string(a.Level)}
		for _, m := range a.Members {
			o.Over = append(o.Over, strings.TrimPrefix(m, "/dev/"))
		}
		out = append(out, l.seen(o))
	}
	for name, v := range l.volumes {
		out = append(out, l.seen(blockdev.Other{Name: name, Path: "/dev/" + name, Links: []string{v.Mapped()}, Is: blockdev.Encrypted, Label: v.Name, UUID: v.UUID,
			Over: []string{strings.TrimPrefix(l.kernelPath(v.Device), "/dev/")}}))
	}
	slices.SortFunc(out, func(a, b blockdev.Other) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (l *layered) seen(o blockdev.Other) blockdev.Other {
	if dev, ok, err := l.open(o.Path); ok && err == nil {
		o.Size, o.Content = dev.Size(), blockdev.Probe(dev, dev.Size())
	}
	o.Use.Holders = l.holders(o.Path)
	return o
}

// checkLayers is whether the arrays run and the volumes are open as a plan wants them.
func (b *bench) checkLayers(t *testing.T, plan *Plan, when string) {
	t.Helper()
	others := (&blockdev.Inventory{Others: b.over.others()})
	for _, l := range plan.devices() {
		o, ok := others.Other(l.Path)
		target, err := plan.Target(l.ID)
		if !ok || err != nil || o.UUID != l.UUID || o.Label != l.Name || o.Size < l.Size {
			t.Errorf("%s: %s is %+v, want %+v (%v)", when, l.ID, o, l, err)
			continue
		}
		for _, p := range target.Partitions {
			if o.Is == blockdev.Array && !slices.Contains(o.Over, strings.TrimPrefix(p.Path, "/dev/")) {
				t.Errorf("%s: %s is on %v and not on %s", when, l.ID, o.Over, p.Path)
			}
		}
	}
	if n := len(b.over.arrays) + len(b.over.volumes); n != len(plan.devices()) {
		t.Errorf("%s: there are %d arrays and volumes", when, n)
	}
}
