package storage

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// update finds the partitions of the configuration on the host and plans which of them get
// new content: the halves for the slot of all pairs that have a file system from the image
// or a new one.
func (c *planner) update() {
	writes := c.written()
	for i := range c.spec.Disks {
		c.updateDisk(diskAt(i), &c.spec.Disks[i], writes)
	}
	if len(c.errs) == 0 {
		c.keepLayers(writes)
	}
}

// written returns, by the id of each partition and layer that an update writes, the id of
// the half of an A/B volume that it belongs to.
func (c *planner) written() map[string]string {
	out := map[string]string{}
	var mark func(id, half string)
	mark = func(id, half string) {
		out[id] = half
		if l, ok := c.plan.layer(id); ok {
			for _, m := range l.Members {
				mark(m, half)
			}
		}
	}
	for _, f := range c.spec.Filesystems {
		if f.Source == hostconfig.FromAdopted || !c.plan.isPair(f.DeviceID) {
			continue
		}
		ids := []string{f.DeviceID}
		if l, _ := c.plan.layer(f.DeviceID); l.Kind == LayerVerity {
			ids = l.Members
		}
		for _, id := range ids {
			mark(c.plan.resolve(id), c.plan.resolve(id))
		}
	}
	return out
}

func (c *planner) updateDisk(at string, want *hostconfig.Disk, writes map[string]string) {
	out := DiskPlan{ID: want.ID, Device: want.Device}
	known, _ := c.inv.Find(want.Device) // a path may have changed; the partitions' do not
	add := func(path, id string, find func() (*blockdev.Disk, *blockdev.Partition, error)) {
		disk, p, err := find()
		if err != nil {
			c.fault(path, errkind.NameGetBlockDevicePath, fmt.Errorf("partition %q: %w", id, err))
			return
		}
		if known == nil {
			known = disk
		}
		action := Keep
		if half, ok := writes[id]; ok {
			action = Write
			out.Destroys = append(out.Destroys, c.overwrite(path, half, id, disk, p))
		}
		c.plan.paths[id] = ByPartUUID + p.UUID
		out.Partitions = append(out.Partitions, PartitionPlan{
			ID: id, Action: action, Number: p.Number, Path: p.Path, Offset: p.Offset, Size: p.Size,
			Type: typeName(p.Type), UUID: p.UUID, Label: p.Label,
		})
	}
	for i, p := range want.Partitions {
		add(fmt.Sprintf("%s.partitions[%d]", at, i), p.ID, func() (*blockdev.Disk, *blockdev.Partition, error) {
			return c.locate(known, p.ID, string(p.UUID), cmp.Or(p.Label, p.ID))
		})
	}
	for i, p := range want.AdoptedPartitions {
		add(fmt.Sprintf("%s.adoptedPartitions[%d]", at, i), p.ID, func() (*blockdev.Disk, *blockdev.Partition, error) {
			return c.locate(known, p.ID, string(p.MatchUUID), p.MatchLabel)
		})
	}
	if known != nil {
		out.Path, out.Model, out.Serial, out.Removable = known.Path, known.Model, known.Serial, known.Removable
		out.Size, out.SectorSize, out.UUID = known.Size, known.SectorSize, known.TableID
	}
	slices.SortFunc(out.Partitions, func(a, b PartitionPlan) int { return a.Number - b.Number })
	c.plan.described.Disks = append(c.plan.described.Disks, out)
}

// locate finds a partition on the host: by its path in the host status, else by its UUID,
// else by its label on its disk.
func (c *planner) locate(on *blockdev.Disk, id, uuid, label string) (*blockdev.Disk, *blockdev.Partition, error) {
	by, match := fmt.Sprintf("label %q", label), func(p *blockdev.Partition) bool { return p.Label == label }
	if uuid != "" {
		by, match = "UUID "+uuid, func(p *blockdev.Partition) bool { return p.UUID == uuid }
	}
	if at := c.req.Paths[id]; at != "" {
		on = nil
		rest, ok := strings.CutPrefix(path.Clean(at), ByPartUUID)
		by, match = at, func(p *blockdev.Partition) bool {
			return ok && strings.EqualFold(p.UUID, rest) || p.Path == path.Clean(at) || slices.Contains(p.Links, path.Clean(at))
		}
	}
	var disk *blockdev.Disk
	var found *blockdev.Partition
	for i := range c.inv.Disks {
		d := &c.inv.Disks[i]
		for j := range d.Partitions {
			p := &d.Partitions[j]
			if on != nil && d != on || p.UUID == "" || !match(p) {
				continue
			}
			if found != nil {
				return nil, nil, errkind.Errorf(errkind.Precondition, "%s and %s are both %s", found.Path, p.Path, by)
			}
			disk, found = d, p
		}
	}
	if found == nil {
		return nil, nil, errkind.Errorf(errkind.NotFound, "the host has no partition %s", by)
	}
	return disk, found, nil
}

// overwrite returns what is lost on a partition of the given half of an A/B volume. It adds
// a fault if the partition, unless it is below another device, cannot be written.
func (c *planner) overwrite(at, half, id string, d *blockdev.Disk, p *blockdev.Partition) Loss {
	out := loss("content", *p)
	use := p.Use
	if l, ok := c.plan.layer(half); ok { // keepLayers checks its use
		use = blockdev.Use{}
		if n, ok := c.inv.Node(l.Path); ok {
			out.Content, out.UUID = n.Content.Type, n.Content.UUID
		}
	}
	c.writable(at, fmt.Sprintf("partition %q (%s)", id, p.Path), use, d.ReadOnly)
	return out
}

// writable adds a fault if the running OS uses the device what, or its disk is read-only.
func (c *planner) writable(at, what string, use blockdev.Use, readOnly bool) {
	if slices.Contains(use.Mounts, "/") {
		c.fault(at, errkind.NameRootDevicePathAbActiveVolumeMismatch, errkind.Errorf(errkind.Precondition,
			"%s is of %s, which is to be written, and the host runs from it", what, c.req.Slot))
		return
	}
	why := use.String()
	if readOnly {
		why = "its disk is read-only"
	}
	if why != "" {
		c.fault(at, errkind.NameDeployImages, errkind.Errorf(errkind.Precondition, "%s is to be written, and cannot be: %s", what, why))
	}
}
