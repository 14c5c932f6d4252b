package storage

import (
	"fmt"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// findDisks finds each disk of the configuration in the inventory. It adds a fault for a
// device that does not exist or is not a disk, and for a disk that is given twice.
func (c *planner) findDisks() []*blockdev.Disk {
	out := make([]*blockdev.Disk, len(c.spec.Disks))
	first := map[string]int{}
	for i, want := range c.spec.Disks {
		at := fmt.Sprintf("storage.disks[%d].device", i)
		d, ok := c.inv.Find(want.Device)
		if !ok {
			c.notFound(at, want)
			continue
		}
		if j, ok := first[d.Path]; ok {
			c.dynamic(errkind.Invalid, at, "DiskDefinitionsReferToSameDevice", "disks %q (%s) and %q (%s) are both %s",
				c.spec.Disks[j].ID, c.spec.Disks[j].Device, want.ID, want.Device, d.Path)
			continue
		}
		first[d.Path], out[i] = i, d
		switch {
		case d.Table == blockdev.TableNone && d.Problem != "":
			c.dynamic(errkind.Precondition, at, "GetBlockDeviceInfoForDisk", "disk %q (%s) cannot be read: %s", want.ID, d.Path, d.Problem)
		case d.ReadOnly:
			c.fault(at, errkind.NameCreatePartitions, errkind.Errorf(errkind.Precondition, "disk %q (%s) is read-only", want.ID, d.Path))
		}
	}
	return out
}

// notFound returns why the inventory has no disk for a device of the configuration.
func (c *planner) notFound(at string, want hostconfig.Disk) {
	if p, ok := c.inv.Partition(want.Device); ok {
		c.dynamic(errkind.Invalid, at, "InvalidDiskBlockDevicePath", "disk %q: %s is %s, a partition and not a disk", want.ID, want.Device, p.Path)
		return
	}
	kind, err := errkind.NotFound, fmt.Errorf("disk %q: the host has no disk %s", want.ID, want.Device)
	hint := "the disks of the host are " + names(c.inv.Disks)
	if len(c.inv.Disks) == 0 {
		hint = "the host has no disks at all: look for their driver"
	}
	if o, ok := c.inv.Other(want.Device); ok {
		kind, err = errkind.Unsupported, fmt.Errorf("disk %q: %s is %s (%s), and this version of Trident installs to disks alone", want.ID, want.Device, o.Is, over(o))
		hint = "name a disk, by its device file or a link to it below /dev/disk"
		if o.Is == blockdev.Multipath && len(o.Over) > 0 {
			hint = fmt.Sprintf("name one of its paths, such as /dev/%s or its link in /dev/disk/by-path, and have multipathd let go of them before: multipath -f %s", o.Over[0], path.Base(want.Device))
		}
	}
	err = errkind.Errorf(kind, "%s: InvalidDiskPath: %w", at, err)
	c.errs = append(c.errs, errkind.WithName(errkind.WithHint(err, "%s", hint), errkind.NameInvalidHostConfigurationDynamic))
}

// over returns the name of a device, and the device that it is on.
func over(o *blockdev.Other) string {
	if len(o.Over) == 0 {
		return o.Name
	}
	return o.Name + " over " + strings.Join(o.Over, " and ")
}

// names lists the device files of disks.
func names(disks []blockdev.Disk) string {
	paths := make([]string, len(disks))
	for i, d := range disks {
		paths[i] = d.Path
	}
	return strings.Join(paths, " and ")
}

// uniqueUUIDs adds a fault if a new partition has the UUID of a partition that the plan
// keeps, on any disk of the host, because fstab finds partitions by UUID.
func (c *planner) uniqueUUIDs() {
	stays := map[string]string{}
	planned := map[string]bool{}
	for _, d := range c.plan.described.Disks {
		planned[d.Path] = true
		for _, p := range d.Partitions {
			if p.Action == Adopt {
				stays[p.UUID] = p.Path
			}
		}
	}
	for _, d := range c.inv.Disks {
		for _, p := range d.Partitions {
			if !planned[d.Path] && p.UUID != "" {
				stays[p.UUID] = p.Path
			}
		}
	}
	for i, d := range c.plan.described.Disks {
		for _, p := range d.Partitions {
			if other, ok := stays[p.UUID]; ok && p.Action == Create {
				c.fault(fmt.Sprintf("storage.disks[%d]", i), errkind.NameCreatePartitions,
					errkind.Errorf(errkind.Precondition, "partition %q needs UUID %s, which is that of %s, and that partition stays", p.ID, p.UUID, other))
			}
		}
	}
}

func partitionName(path, label string) string {
	if label == "" {
		return "partition " + path
	}
	return fmt.Sprintf("partition %s %q", path, label)
}
