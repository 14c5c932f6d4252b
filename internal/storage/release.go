package storage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// release is an array or an open encrypted volume over the disks, which Apply ends before it
// replaces their partition tables.
type release struct{ blockdev.Other }

const hintUse = "unmount what is on the disk, and stop swap, RAID, LVM, multipath and encrypted volumes on it, or name another disk"

// release plans the end of the devices over the disks and partitions that the plan does not
// keep. It returns them as losses, by the index of a disk that they are on. It adds a fault
// for each disk and partition whose use does not end by that.
func (c *planner) release(found []*blockdev.Disk, adopted [][]adoption) [][]Loss {
	doomed := map[string]int{} // the index of the disk, by the names of the disk and of its partitions
	for i, d := range found {
		doomed[d.Name] = i
		for _, p := range d.Partitions {
			if !slices.ContainsFunc(adopted[i], func(a adoption) bool { return a.entry.Number == p.Number }) {
				doomed[p.Name] = i
			}
		}
	}
	out := make([][]Loss, len(found))
	for i, d := range found {
		id := c.spec.Disks[i].ID
		c.end(diskAt(i), fmt.Sprintf("disk %q (%s) is in use as a whole", id, d.Path), d.Use, doomed, out)
		for _, p := range d.Partitions {
			if _, ok := doomed[p.Name]; ok {
				c.end(diskAt(i), fmt.Sprintf("disk %q: %s would be deleted, and is in use", id, partitionName(p.Path, p.Label)), p.Use, doomed, out)
			}
		}
	}
	return out
}

// end plans the end of the devices that hold a disk or partition, or adds the fault.
func (c *planner) end(at, fault string, use blockdev.Use, doomed map[string]int, out [][]Loss) {
	if !use.InUse() {
		return
	}
	name, why := errkind.NameCreatePartitions, ""
	if len(use.Mounts) == 0 && !use.Swap {
		var held bool
		for _, h := range use.Holders {
			if reason, upstream, ok := c.endOne(h, doomed, out); !ok {
				held = true
				if reason != "" {
					name, why = upstream, ", "+reason
				}
			}
		}
		if !held {
			return
		}
	}
	c.fault(at, name, errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s: %s%s", fault, use, why), hintUse))
}

// endOne plans the end of the device with that name, and of those that hold it, before it.
// If that is not possible it returns the reason, which may be "", and upstream's name.
func (c *planner) endOne(name string, doomed map[string]int, out [][]Loss) (reason, upstream string, ok bool) {
	if slices.ContainsFunc(c.plan.releases, func(r release) bool { return r.Name == name }) {
		return "", "", true
	}
	o, ok := c.inv.Other("/dev/" + name)
	if !ok || o.Is != blockdev.Array && o.Is != blockdev.Encrypted {
		return "", "", false
	}
	what, upstream := "volume", errkind.NameCleanupEncryption
	if o.Is == blockdev.Array {
		what, upstream = "array", errkind.NameCleanupRaid
	}
	for _, below := range c.inv.Bottom(name) {
		if _, ok := doomed[below]; !ok {
			return fmt.Sprintf("%s that is also on /dev/%s, which stays", o.Is, below), upstream, false
		}
	}
	if o.UUID == "" {
		return o.Is + " without a UUID that Trident can read", upstream, false
	}
	for _, h := range o.Use.Holders {
		if reason, _, ok := c.endOne(h, doomed, out); !ok {
			return strings.TrimSuffix("which is held by "+h+", "+reason, ", "), upstream, false
		}
	}
	c.plan.releases = append(c.plan.releases, release{*o})
	i := doomed[c.inv.Bottom(name)[0]]
	out[i] = append(out[i], Loss{What: what, Path: o.Path, Size: o.Size, Label: o.Label, UUID: o.UUID, Content: o.Content.Type})
	return "", "", true
}
