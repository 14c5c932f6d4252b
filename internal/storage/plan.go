package storage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// planner has the inputs and results that the parts of NewPlan share.
type planner struct {
	spec *hostconfig.Storage
	inv  *blockdev.Inventory
	req  Request
	plan *Plan
	errs []error
}

// NewPlan returns how the disks of the host with the inventory inv will be changed. The
// configuration must be one that hostconfig.Parse has accepted. The error has all reasons
// against the plan, each with upstream's name: a disk that does not exist, is too small or
// in use, an array that is partly on other disks, or an adopted partition with no match or
// several. The kind is Unsupported for devices that this version cannot set up.
func NewPlan(spec *hostconfig.Storage, inv *blockdev.Inventory, req Request) (*Plan, error) {
	if len(req.Seed) < minSeed || !req.Slot.Valid() || req.For != Install && req.For != Update {
		return nil, errkind.Errorf(errkind.Internal, "plan storage: the request needs a purpose, a slot and a seed; it has %s, %s, and %d bytes of seed", req.For, req.Slot, len(req.Seed))
	}
	if err := unsupported(spec); err != nil {
		return nil, fmt.Errorf("plan storage: %w", err)
	}
	c := &planner{spec: spec, inv: inv, req: req, plan: &Plan{paths: map[string]string{}}}
	c.plan.described = Description{For: req.For, Slot: req.Slot}
	c.stack()
	if req.For == Install {
		c.install()
	} else {
		c.update()
	}
	if len(c.errs) == 0 {
		c.formats()
		c.mounts()
	}
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("plan storage: %w", errors.Join(c.errs...))
	}
	return c.plan, nil
}

// unsupported returns an error for what Apply cannot set up.
func unsupported(s *hostconfig.Storage) error {
	if slices.ContainsFunc(s.Filesystems, func(f hostconfig.Filesystem) bool { return f.Type == hostconfig.Overlay }) {
		return errkind.Errorf(errkind.Unsupported, "this version cannot set up file systems of type overlay")
	}
	return nil
}

// dynamic adds a fault with a name from upstream's validation against the host. On the wire
// the name is inside InvalidHostConfigurationDynamic.
func (c *planner) dynamic(kind errkind.Kind, path, name, format string, args ...any) {
	err := errkind.Errorf(kind, "%s: %s: %w", path, name, fmt.Errorf(format, args...))
	c.errs = append(c.errs, errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic))
}

// fault adds a fault that upstream finds only while it services a host.
func (c *planner) fault(path, name string, err error) {
	c.errs = append(c.errs, errkind.WithName(fmt.Errorf("%s: %w", path, err), name))
}

func (c *planner) install() {
	found := c.findDisks()
	if len(c.errs) > 0 {
		return
	}
	adopted := make([][]adoption, len(found))
	for i := range c.spec.Disks {
		adopted[i] = c.adopt(diskAt(i), &c.spec.Disks[i], found[i])
	}
	released := c.release(found, adopted)
	if len(c.errs) > 0 {
		return
	}
	for i := range c.spec.Disks {
		c.installDisk(diskAt(i), &c.spec.Disks[i], found[i], adopted[i], released[i])
	}
	if len(c.errs) == 0 {
		c.uniqueUUIDs()
		c.createLayers()
	}
}

func diskAt(i int) string { return fmt.Sprintf("storage.disks[%d]", i) }

// installDisk plans the new partitions of one disk around the adopted ones. released are the
// devices over the disk that end before.
func (c *planner) installDisk(path string, want *hostconfig.Disk, have *blockdev.Disk, adopted []adoption, released []Loss) {
	table := &gpt.Disk{ID: derive(c.req.Seed, "disk", want.ID), Size: have.Size, SectorSize: have.SectorSize}
	if len(adopted) > 0 { // then the table is the same, changed
		table.ID, table.BootCode = have.GPT.ID, have.GPT.BootCode
	}
	out := DiskPlan{
		ID: want.ID, Device: want.Device, Path: have.Path, Model: have.Model, Serial: have.Serial,
		Size: have.Size, SectorSize: have.SectorSize, Removable: have.Removable, UUID: table.ID.String(),
	}
	work := diskWork{id: want.ID, path: have.Path, seen: have.GPT, table: table}
	var taken []extent
	for _, a := range adopted {
		work.shared = work.shared || a.found.Use.InUse()
		taken = append(taken, extent{a.entry.Offset, a.entry.Size})
		table.Entries = append(table.Entries, a.entry)
		out.Partitions = append(out.Partitions, a.plan())
	}
	created, err := c.create(want, have, taken, table.Entries)
	if err != nil {
		c.fault(path, errkind.NameCreatePartitions, fmt.Errorf("disk %q (%s): %w", want.ID, have.Path, err))
		return
	}
	for _, p := range created {
		table.Entries = append(table.Entries, gpt.Entry{Number: p.Number, Type: p.typeID, ID: p.id, Offset: p.Offset, Size: p.Size, Name: p.Label})
	}
	slices.SortFunc(table.Entries, func(a, b gpt.Entry) int { return a.Number - b.Number })
	work.created = created
	out.Partitions = append(out.Partitions, created...)
	slices.SortFunc(out.Partitions, func(a, b PartitionPlan) int { return a.Number - b.Number })
	out.Destroys = append(losses(have, adopted), released...)
	c.plan.described.Disks = append(c.plan.described.Disks, out)
	c.plan.disks = append(c.plan.disks, work)
	for _, p := range out.Partitions {
		c.plan.paths[p.ID] = ByPartUUID + p.UUID
	}
}

// ByPartUUID is the folder of udev with a link for each partition, by its UUID.
const ByPartUUID = "/dev/disk/by-partuuid/"

// create places the new partitions of a disk and numbers them.
func (c *planner) create(want *hostconfig.Disk, have *blockdev.Disk, taken []extent, entries []gpt.Entry) ([]PartitionPlan, error) {
	sizes := make([]int64, len(want.Partitions))
	for i, p := range want.Partitions {
		if sizes[i] = int64(p.Size); sizes[i] < 0 || sizes[i] > have.Size {
			return nil, errkind.Errorf(errkind.NoSpace, "the disk is too small: partition %q is to have %s, and the disk has %s", p.ID, p.Size, bytesize.Plain(have.Size))
		}
	}
	extents, err := layout(gpt.FirstUsable(have.SectorSize), gpt.EndUsable(have.Size, have.SectorSize), taken, sizes)
	if err != nil {
		return nil, err
	}
	used := map[int]bool{}
	for _, e := range entries {
		used[e.Number] = true
	}
	var out []PartitionPlan
	number := 0
	for i, p := range want.Partitions {
		for number++; used[number]; number++ {
		}
		if number > gpt.MaxEntries {
			return nil, errkind.Errorf(errkind.TooLarge, "there are more than %d partitions", gpt.MaxEntries)
		}
		plan, err := c.partition(want, &p)
		if err != nil {
			return nil, err
		}
		plan.Number, plan.Path = number, "/dev/"+blockdev.PartitionName(have.Name, number)
		plan.Offset, plan.Size = extents[i].offset, extents[i].size
		out = append(out, plan)
	}
	return out, nil
}

// partition returns the plan for a new partition without its place on the disk.
func (c *planner) partition(disk *hostconfig.Disk, p *hostconfig.Partition) (PartitionPlan, error) {
	out := PartitionPlan{ID: p.ID, Action: Create, Grown: !p.Size.Fixed(), Type: string(cmp.Or(p.Type, hostconfig.PartitionLinuxGeneric)), Label: cmp.Or(p.Label, p.ID)}
	var err error
	if out.typeID, err = typeID(p.Type, c.req.Arch); err != nil {
		return out, fmt.Errorf("partition %q: %w", p.ID, err)
	}
	out.id = derive(c.req.Seed, "partition", disk.ID, p.ID)
	if p.UUID != "" {
		if out.id, err = gpt.ParseGUID(string(p.UUID)); err != nil {
			return out, fmt.Errorf("partition %q: %w", p.ID, err)
		}
	}
	out.UUID = out.id.String()
	if !gpt.NameFits(out.Label) {
		return out, errkind.Errorf(errkind.Invalid, "partition %q: the label %q is longer than the 36 characters that a partition table has room for", p.ID, out.Label)
	}
	return out, nil
}
