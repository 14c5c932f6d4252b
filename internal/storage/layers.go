package storage

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/md"
)

// stack adds the layers of the configuration without their sizes and UUIDs. The members of
// a layer come before it.
func (c *planner) stack() {
	add := func(l Layer) { c.plan.described.Layers = append(c.plan.described.Layers, l) }
	for _, r := range c.spec.RAID.Software {
		add(Layer{ID: r.ID, Kind: LayerArray, Members: r.Devices, Path: arrayPath(r.Name), Name: r.Name, Level: string(r.Level)})
	}
	if c.spec.Encryption != nil {
		for _, v := range c.spec.Encryption.Volumes {
			add(Layer{ID: v.ID, Kind: LayerEncrypted, Members: []string{v.DeviceID}, Path: mappedPath(v.DeviceName), Name: v.DeviceName})
		}
	}
	if c.spec.ABUpdate != nil {
		for _, p := range c.spec.ABUpdate.VolumePairs {
			add(Layer{ID: p.ID, Kind: LayerPair, Members: []string{p.VolumeAID, p.VolumeBID}})
		}
	}
	for _, v := range c.spec.Verity {
		add(Layer{ID: v.ID, Kind: LayerVerity, Members: []string{v.DataDeviceID, v.HashDeviceID}, Path: mappedPath(v.Name), Name: v.Name})
	}
}

// at returns the place of the device of a layer in the configuration, and its words for an error.
func (c *planner) at(l *Layer) (path, what, upstream string) {
	if l.Kind == LayerArray {
		i := slices.IndexFunc(c.spec.RAID.Software, func(r hostconfig.SoftwareRAID) bool { return r.ID == l.ID })
		return fmt.Sprintf("storage.raid.software[%d]", i), fmt.Sprintf("array %q", l.ID), errkind.NameCreateRaid
	}
	i := slices.IndexFunc(c.spec.Encryption.Volumes, func(v hostconfig.EncryptedVolume) bool { return v.ID == l.ID })
	return fmt.Sprintf("storage.encryption.volumes[%d]", i), fmt.Sprintf("encrypted volume %q", l.ID), errkind.NameEncryptBlockDevice
}

// devices returns the arrays and encrypted volumes, from the bottom up.
func (p *Plan) devices() []*Layer {
	var out []*Layer
	for i := range p.described.Layers {
		if l := &p.described.Layers[i]; l.Kind == LayerArray || l.Kind == LayerEncrypted {
			out = append(out, l)
		}
	}
	return out
}

// createLayers plans new arrays and encrypted volumes on the new partitions.
func (c *planner) createLayers() {
	for _, l := range c.plan.devices() {
		at, what, upstream := c.at(l)
		if err := c.createLayer(l, what); err != nil {
			c.fault(at, upstream, err)
		}
	}
	c.plan.sync = c.syncWait()
}

func (c *planner) createLayer(l *Layer, what string) error {
	l.Action = Create
	l.UUID = derive(c.req.Seed, string(l.Kind), l.ID).String()
	var sizes []int64
	for _, m := range l.Members {
		below, err := c.plan.Target(m)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		sizes = append(sizes, below.Size)
	}
	if l.Size = capacity(l, sizes); l.Size <= 0 {
		return errkind.Errorf(errkind.NoSpace, "%s has no room for data: the smallest of its devices has %s", what, bytesize.Plain(slices.Min(sizes)))
	}
	return c.nameIsFree(l, what)
}

const (
	// luksHeader is the size of a LUKS2 header as cryptsetup(8) makes it.
	luksHeader = 16 * mib
	// arrayReserve is more than an array with a superblock of version 1.0 takes at the end
	// of each member: the superblock, its list of bad blocks, and a bitmap of 128 KiB.
	arrayReserve = 256 << 10
	// arrayChunk is the unit of striped levels: mdadm(8) rounds members down to it.
	arrayChunk = md.Chunk
)

// capacity returns how many bytes an array or an encrypted volume has at least, over
// devices of the given sizes.
func capacity(l *Layer, sizes []int64) int64 {
	least, n := slices.Min(sizes), int64(len(sizes))
	if l.Kind == LayerEncrypted {
		return least - luksHeader
	}
	least -= arrayReserve
	if l.Level != string(hostconfig.RAID1) {
		least = alignDown(least, arrayChunk)
	}
	switch hostconfig.RAIDLevel(l.Level) {
	case hostconfig.RAID0:
		sum := int64(0)
		for _, size := range sizes {
			sum += alignDown(size-arrayReserve, arrayChunk)
		}
		return sum
	case hostconfig.RAID5:
		return least * (n - 1)
	case hostconfig.RAID6:
		return least * (n - 2)
	case hostconfig.RAID10: // two copies of each chunk
		return alignDown(least*n/2, arrayChunk)
	}
	return least
}

// nameIsFree returns an error if no device can have the name of l, or if a device that stays
// has it.
func (c *planner) nameIsFree(l *Layer, what string) error {
	if l.Kind == LayerArray && !md.IsName(l.Name) {
		return errkind.Errorf(errkind.Invalid, "%s: mdadm(8) does not accept the name %q: use up to %d letters, digits, dots, hyphens and underscores, and no dot or hyphen first", what, l.Name, md.MaxName)
	}
	if l.Kind == LayerEncrypted && !isMappedName(l.Name) {
		return errkind.Errorf(errkind.Invalid, "%s: crypttab(5) cannot have the name %q: use up to %d letters, digits and the characters #+-.:=@_", what, l.Name, maxMappedName)
	}
	o, ok := c.inv.Other(l.Path)
	if !ok || slices.ContainsFunc(c.plan.releases, func(r release) bool { return r.Name == o.Name }) {
		return nil
	}
	return errkind.Errorf(errkind.Precondition, "%s: %s is %s (%s), which stays", what, l.Path, o.Is, over(o))
}

const maxMappedName = 127 // DM_NAME_LEN of linux/dm-ioctl.h, without its zero

// isMappedName reports whether device-mapper makes a file of that name as it is, and a field
// of crypttab(5) can have it.
func isMappedName(name string) bool {
	const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return name != "" && len(name) <= maxMappedName && strings.Trim(name, alphanumeric+"#+-.:=@_") == "" && name != "." && name != ".." && name != "control" && name[0] != '#'
}

// keepLayers finds the arrays and encrypted volumes of the configuration on the host. It
// adds a fault for each that does not run, or rests on other partitions, and for each half
// of an A/B volume that is to be written and is in use.
func (c *planner) keepLayers(writes map[string]string) {
	for _, l := range c.plan.devices() {
		at, what, _ := c.at(l)
		o, err := c.keepLayer(l, what)
		if err != nil {
			c.fault(at, errkind.NameGetBlockDevicePath, err)
			continue
		}
		half, written := writes[l.ID]
		if written {
			l.Action = Write
		}
		if written && half == l.ID {
			c.writable(at, fmt.Sprintf("%s (%s)", what, l.Path), o.Use, false)
		}
	}
}

// keepLayer finds an array or encrypted volume on the host.
func (c *planner) keepLayer(l *Layer, what string) (*blockdev.Other, error) {
	o, ok := c.inv.Other(l.Path)
	if !ok || o.Size == 0 {
		err := errkind.Errorf(errkind.NotFound, "%s: the host has no %s that runs", what, l.Path)
		return nil, errkind.WithHint(err, "assemble or unlock it, or boot the host again, and look for what has failed in the log")
	}
	if err := c.checkMembers(l, what, o); err != nil {
		return nil, err
	}
	l.Action, l.UUID, l.Size = Keep, o.UUID, o.Size
	target, err := c.plan.layerTarget(*l)
	if err != nil {
		return nil, err
	}
	for _, name := range c.inv.Bottom(o.Name) {
		if !slices.ContainsFunc(target.Partitions, func(p PartitionPlan) bool { return path.Base(p.Path) == name }) {
			return nil, errkind.Errorf(errkind.Precondition, "%s: %s is on /dev/%s, which the configuration does not have below it", what, l.Path, name)
		}
	}
	return o, nil
}

// checkMembers returns an error if the kernel cannot write an array, and adds a warning if the
// array is degraded.
func (c *planner) checkMembers(l *Layer, what string, o *blockdev.Other) error {
	i := slices.IndexFunc(c.req.Arrays, func(s md.State) bool { return s.Kernel == o.Name })
	if l.Kind != LayerArray || i < 0 {
		return nil
	}
	const repair = "trident rebuild-raid"
	s := c.req.Arrays[i]
	inSync := s.Slots - s.Missing
	switch {
	case s.ReadOnly:
		err := errkind.Errorf(errkind.Precondition, "%s (%s) cannot be written: the kernel has made it read-only", what, l.Path)
		return errkind.WithHint(err, "Look for errors of its disks: journalctl --dmesg. Then make it whole: %s", repair)
	case inSync < s.Least():
		err := errkind.Errorf(errkind.Precondition, "%s (%s) cannot be written: %d of its %d members are in sync, and %s needs at least %d", what, l.Path, inSync, s.Slots, s.Level, s.Least())
		return errkind.WithHint(err, "Look for the missing disks, or install the host again.")
	case s.Missing > 0:
		c.plan.warnings = append(c.plan.warnings, fmt.Sprintf("%s (%s) is degraded: %d of its %d members are in sync. To make it whole: %s", what, l.Path, inSync, s.Slots, repair))
	}
	return nil
}

// mounts adds the file systems of the configuration.
func (c *planner) mounts() {
	for _, f := range c.spec.Filesystems {
		if f.DeviceID == "" {
			continue
		}
		m := Mount{ID: f.DeviceID, Source: string(f.Source), Type: string(f.Type)}
		if f.MountPoint != nil {
			m.At = f.MountPoint.Path
		}
		c.plan.described.Mounts = append(c.plan.described.Mounts, m)
	}
}
