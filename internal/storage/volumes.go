package storage

import (
	"cmp"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/slot"
)

// Pairs returns the ids of both halves of each A/B volume, by the id of the volume.
func Pairs(s *hostconfig.Storage) map[string]slot.Pair[string] {
	out := map[string]slot.Pair[string]{}
	if s.ABUpdate != nil {
		for _, p := range s.ABUpdate.VolumePairs {
			out[p.ID] = slot.Pair[string]{A: p.VolumeAID, B: p.VolumeBID}
		}
	}
	return out
}

// Device returns the path of the device id for a host that runs from the slot in. paths has
// the paths of the partitions, by id. Device uses in only for A/B volumes and for devices
// that consist of one.
func Device(s *hostconfig.Storage, paths map[string]string, in slot.Slot, id string) (string, error) {
	if path, ok := paths[id]; ok {
		return path, nil
	}
	for _, r := range s.RAID.Software {
		if r.ID == id {
			return arrayPath(r.Name), nil
		}
	}
	if s.Encryption != nil {
		for _, v := range s.Encryption.Volumes {
			if v.ID == id {
				return mappedPath(v.DeviceName), nil
			}
		}
	}
	for _, v := range s.Verity {
		if v.ID == id {
			return mappedPath(v.Name), nil
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

func arrayPath(name string) string  { return md.Array{Name: name}.Device() }
func mappedPath(name string) string { return luks.Volume{Name: name}.Mapped() }

// formats adds the file systems and swap that Apply makes: for an update only those on a
// half of a pair.
func (c *planner) formats() {
	add := func(id, typ, mount string) {
		if c.req.For == Update && !c.plan.isPair(id) {
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

// emptyESP reports whether the device id is an EFI system partition that Apply makes a file
// system on, whatever its source. All systems that boot from the disk share that partition,
// so an image only adds files to it (package boot).
func (c *planner) emptyESP(id string) bool {
	p, err := c.plan.Target(id)
	return err == nil && p.Action == Create
}
