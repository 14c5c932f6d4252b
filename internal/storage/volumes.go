package storage

import (
	"cmp"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/slot"
)

// Pairs is the A/B volumes: the ids of both halves by the id of the pair.
func Pairs(s *hostconfig.Storage) map[string]slot.Pair[string] {
	out := map[string]slot.Pair[string]{}
	if s.ABUpdate != nil {
		for _, p := range s.ABUpdate.VolumePairs {
			out[p.ID] = slot.Pair[string]{A: p.VolumeAID, B: p.VolumeBID}
		}
	}
	return out
}

// Device is the path of the device with that id, for a host that runs from the
// slot: paths has those of the partitions, by id. The slot is needed for A/B
// volumes only, and whatever rests on them.
func Device(s *hostconfig.Storage, paths map[string]string, in slot.Slot, id string) (string, error) {
	if path, ok := paths[id]; ok {
		return path, nil
	}
	for _, r := range s.RAID.Software {
		if r.ID == id {
			return "/dev/md/" + r.Name, nil
		}
	}
	if s.Encryption != nil {
		for _, v := range s.Encryption.Volumes {
			if v.ID == id {
				return "/dev/mapper/" + v.DeviceName, nil
			}
		}
	}
	for _, v := range s.Verity {
		if v.ID == id {
			return "/dev/mapper/" + v.Name, nil
		}
	}
	pair, ok := Pairs(s)[id]
	if !ok || !in.Valid() || pair.Of(in) == id {
		return "", notPlanned(id)
	}
	half := pair.Of(in)
	if _, ok := Pairs(s)[half]; ok {
		return "", notPlanned(id)
	}
	return Device(s, paths, in, half)
}

func notPlanned(id string) error {
	return errkind.WithName(errkind.Errorf(errkind.NotFound, "no device of this host is %q", id), errkind.NameGetBlockDevicePath)
}

// layers lists what rests on partitions, from below upwards.
func (c *planner) layers() {
	if c.spec.ABUpdate != nil {
		for _, p := range c.spec.ABUpdate.VolumePairs {
			c.plan.described.Layers = append(c.plan.described.Layers, Layer{p.ID, LayerPair, []string{p.VolumeAID, p.VolumeBID}})
		}
	}
	pairs, in := Pairs(c.spec), c.req.Slot
	c.plan.resolve = func(id string) (string, error) {
		if pair, ok := pairs[id]; ok {
			return pair.Of(in), nil
		}
		return id, nil
	}
}

// formats lists the file systems and swap that are made: with an update only
// those on the half of a pair.
func (c *planner) formats() {
	pairs := Pairs(c.spec)
	add := func(id, typ, mount string) {
		if _, ok := pairs[id]; !ok && c.req.For == Update {
			return
		}
		p, err := c.plan.Target(id)
		if err != nil {
			c.errs = append(c.errs, err)
			return
		}
		f := Format{ID: id, Path: p.Path, Type: typ, Mount: mount, UUID: formatUUID(typ, derive(c.req.Seed, "content", p.ID).String())}
		if _, err := mkfs(f); err != nil {
			c.fault("storage", formatName(f), fmt.Errorf("%s: %w", f.step(), err))
			return
		}
		c.plan.described.Formats = append(c.plan.described.Formats, f)
	}
	for _, f := range c.spec.Filesystems {
		typ := cmp.Or(f.Type, hostconfig.Ext4)
		switch {
		case f.DeviceID == "":
			continue
		case f.IsESP() && c.emptyESP(f.DeviceID):
			typ = hostconfig.VFAT
		case f.Source != hostconfig.FromNew:
			continue
		}
		mount := ""
		if f.MountPoint != nil {
			mount = f.MountPoint.Path
		}
		add(f.DeviceID, string(typ), mount)
	}
	for _, s := range c.spec.Swap {
		add(s.DeviceID, swapType, "")
	}
}

// emptyESP tells an EFI system partition that is made. It has a file system of its
// own, whatever its source: it is shared by all that boot from the disk, so an image
// brings only the files that are to be in it (package boot).
func (c *planner) emptyESP(id string) bool {
	p, err := c.plan.Target(id)
	return err == nil && p.Action == Create
}
