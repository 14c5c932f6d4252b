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
	"github.com/trident-project/trident/internal/linux/md"
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
	var missing []absence
	add := func(path, id string, find func() (*blockdev.Disk, *blockdev.Partition, error)) {
		disk, p, err := find()
		if err != nil {
			missing = append(missing, absence{id, path, err})
			return
		}
		if known == nil {
			known = disk
		}
		action := Keep
		if half, ok := writes[id]; ok && !c.isDropped(id, p) {
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
	if len(missing) > 0 && len(out.Partitions) == 0 {
		known = nil // another disk may be in its place
	}
	for _, m := range missing {
		c.lack(&out, m, known == nil)
	}
	if known != nil {
		out.Path, out.Model, out.Serial, out.Removable = known.Path, known.Model, known.Serial, known.Removable
		out.Size, out.SectorSize, out.UUID = known.Size, known.SectorSize, known.TableID
	}
	slices.SortFunc(out.Partitions, func(a, b PartitionPlan) int { return a.Number - b.Number })
	c.plan.described.Disks = append(c.plan.described.Disks, out)
}

// absence is a partition that NewPlan has not found on the host.
type absence struct {
	id, path string
	err      error
}

// lack adds a missing partition to the plan of its disk, and a warning. It adds a fault if the
// host cannot be updated without it: if it is not a member of an array, and if its disk has
// other partitions or anything but swap uses it.
func (c *planner) lack(out *DiskPlan, m absence, diskIsGone bool) {
	i := slices.IndexFunc(c.spec.RAID.Software, func(r hostconfig.SoftwareRAID) bool { return slices.Contains(r.Devices, m.id) })
	if i < 0 && (!diskIsGone || c.isNeeded(m.id)) || errkind.Of(m.err) != errkind.NotFound {
		c.fault(m.path, errkind.NameGetBlockDevicePath, fmt.Errorf("partition %q: %w", m.id, m.err))
		return
	}
	lost := PartitionPlan{ID: m.id, Action: Missing}
	if at := c.req.Paths[m.id]; at != "" { // rebuild-raid finds what is missing by the recorded path
		c.plan.paths[m.id] = at
		lost.UUID, _ = strings.CutPrefix(at, ByPartUUID)
	}
	out.Partitions = append(out.Partitions, lost)
	role := "swap, or nothing, uses it"
	if i >= 0 {
		role = fmt.Sprintf("array %q goes on without it", c.spec.RAID.Software[i].ID)
	}
	c.plan.warnings = append(c.plan.warnings, fmt.Sprintf("partition %q of disk %q is missing: %s", m.id, out.ID, role))
}

// isDropped reports whether a partition is a member of an array that runs without it: nothing
// writes the partition.
func (c *planner) isDropped(id string, p *blockdev.Partition) bool {
	i := slices.IndexFunc(c.spec.RAID.Software, func(r hostconfig.SoftwareRAID) bool { return slices.Contains(r.Devices, id) })
	return i >= 0 && len(c.req.Arrays) > 0 && !slices.ContainsFunc(c.req.Arrays, func(s md.State) bool {
		return slices.ContainsFunc(s.Members, func(m md.Member) bool { return m.Device == p.Path && !m.Faulty })
	})
}

// isNeeded reports whether the configuration uses a partition for anything but swap.
func (c *planner) isNeeded(id string) bool {
	s := c.spec
	return slices.ContainsFunc(s.Filesystems, func(f hostconfig.Filesystem) bool { return f.DeviceID == id }) ||
		slices.ContainsFunc(c.plan.described.Layers, func(l Layer) bool { return slices.Contains(l.Members, id) })
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
