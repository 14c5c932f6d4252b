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
		c.updateDisk(fmt.Sprintf("storage.disks[%d]", i), &c.spec.Disks[i], writes)
	}
}

// written returns the ids of the partitions that an update writes.
func (c *planner) written() map[string]bool {
	out := map[string]bool{}
	for _, f := range c.spec.Filesystems {
		if f.Source == hostconfig.FromAdopted {
			continue
		}
		if pair, ok := Pairs(c.spec)[f.DeviceID]; ok {
			out[pair.Of(c.req.Slot)] = true
		}
	}
	return out
}

func (c *planner) updateDisk(at string, want *hostconfig.Disk, writes map[string]bool) {
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
		if writes[id] {
			action = Write
			c.writable(path, id, disk, p)
			out.Destroys = append(out.Destroys, loss("content", *p))
		}
		c.plan.paths[id] = byPartUUID + p.UUID
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
		rest, ok := strings.CutPrefix(path.Clean(at), byPartUUID)
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

// writable adds a fault if the running OS uses the partition.
func (c *planner) writable(at, id string, d *blockdev.Disk, p *blockdev.Partition) {
	if slices.Contains(p.Use.Mounts, "/") {
		c.fault(at, errkind.NameRootDevicePathAbActiveVolumeMismatch, errkind.Errorf(errkind.Precondition,
			"partition %q (%s) is of %s, which is to be written, and the host runs from it", id, p.Path, c.req.Slot))
		return
	}
	if p.Use.InUse() || d.ReadOnly {
		use := p.Use.String()
		if d.ReadOnly {
			use = "its disk is read-only"
		}
		c.fault(at, errkind.NameDeployImages, errkind.Errorf(errkind.Precondition, "partition %q (%s) is to be written, and cannot be: %s", id, p.Path, use))
	}
}
