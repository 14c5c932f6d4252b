package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// check finds what is wrong with the arrays, logs it, and decides which disks get a new
// partition table. It finds every fault that would make a later step fail and can be known.
func (s *Service) check(ctx context.Context, r *run) error {
	if err := s.decide(ctx, r); err != nil {
		return errkind.WithName(err, errkind.NameValidateRebuildRaid)
	}
	return nil
}

func (s *Service) decide(ctx context.Context, r *run) error {
	v, err := s.view(ctx, r)
	if err != nil {
		return err
	}
	r.State.Disks, r.State.Paths = nil, slices.Clone(r.State.Was)
	for _, d := range v.disks {
		if v.isMirrored(d.config) {
			if err := s.decideDisk(r, v, d); err != nil {
				return fmt.Errorf("disk %q (%s): %w", d.config.ID, d.config.Device, err)
			}
		}
	}
	for _, a := range v.arrays {
		if err := s.checkArray(r, v, a); err != nil {
			return fmt.Errorf("array %q (%s): %w", a.config.ID, md.Folder+a.config.Name, err)
		}
	}
	return s.machine.FindTools([]string{"mdadm"})
}

// isMirrored reports whether a disk has a member of an array.
func (v *view) isMirrored(d *hostconfig.Disk) bool {
	return slices.ContainsFunc(ids(d), func(id string) bool { return v.arrayOf(id) != nil })
}

// arrayOf returns the array that a partition belongs to, or nil.
func (v *view) arrayOf(partition string) *array {
	i := slices.IndexFunc(v.arrays, func(a array) bool { return slices.Contains(a.config.Devices, partition) })
	if i < 0 {
		return nil
	}
	return &v.arrays[i]
}

// decideDisk decides what a disk with members needs: nothing, its new paths recorded, or a
// new partition table.
func (s *Service) decideDisk(r *run, v *view, d *disk) error {
	for _, c := range d.clones {
		if o := v.homeless(c); o == nil {
			err := errkind.Errorf(errkind.Precondition, "%s is a clone of it (%s), and the configuration has no disk there", c.Path, d.home.Path)
			return errkind.WithHint(err, "Remove the clone from the host, or wipe it: wipefs --all %s", c.Path)
		}
	}
	if d.home != nil && !slices.ContainsFunc(ids(d.config), func(id string) bool { return v.on(d.home, id) == nil }) {
		return nil
	}
	at, ok := v.inv.Find(d.config.Device)
	switch {
	case !ok:
		err := errkind.Errorf(errkind.NotFound, "it is missing: the host has no such disk")
		return errkind.WithHint(err, "Put a new disk in its place, then: trident rebuild-raid")
	case d.home != nil && d.home != at:
		return errkind.Errorf(errkind.Precondition, "some of its partitions are on %s and others are gone", d.home.Path)
	}
	clone := false
	for _, o := range v.disks {
		if o.home == at && o != d {
			return errkind.WithHint(errkind.Errorf(errkind.NotFound, "it is missing: %s is disk %q", at.Path, o.config.ID), "Put a new disk in its place, then: trident rebuild-raid")
		}
		clone = clone || slices.Contains(o.clones, at)
	}
	if !clone && d.home == nil && s.isPrepared(v, d, at) {
		for i := range d.config.Partitions {
			id := d.config.Partitions[i].ID
			setPath(r, id, storage.ByPartUUID+labelled(at, &d.config.Partitions[i]).UUID)
		}
		r.Logf(slog.LevelInfo, "disk %q (%s) was replaced, and has its partitions already", d.config.ID, at.Path)
		return nil
	}
	if err := s.checkReplaceable(r, v, d, at); err != nil {
		return err
	}
	what := "was replaced"
	switch {
	case clone:
		what = "is a clone of another disk"
	case d.home != nil:
		what = "has lost partitions"
	}
	r.Logf(slog.LevelInfo, "disk %q (%s) %s: it gets a new partition table", d.config.ID, at.Path, what)
	r.State.Disks = append(r.State.Disks, newDisk{ID: d.config.ID, Serial: at.Serial, Size: at.Size})
	return nil
}

// homeless returns the disk of the configuration whose recorded partitions are gone, and in
// whose place at is; nil if there is none.
func (v *view) homeless(at *blockdev.Disk) *disk {
	for _, d := range v.disks {
		if found, ok := v.inv.Find(d.config.Device); ok && found == at && d.home == nil {
			return d
		}
	}
	return nil
}

func setPath(r *run, id, to string) {
	for i := range r.State.Paths {
		if r.State.Paths[i].ID == id {
			r.State.Paths[i].Path = to
			return
		}
	}
	r.State.Paths = append(r.State.Paths, path{id, to})
}

// labelled returns the partition on a disk with the label and the type of the configuration,
// and no less than its size; nil if there is none.
func labelled(on *blockdev.Disk, want *hostconfig.Partition) *blockdev.Partition {
	for i := range on.Partitions {
		p := &on.Partitions[i]
		typ := string(cmp.Or(want.Type, hostconfig.PartitionLinuxGeneric))
		if id, err := gpt.ParseGUID(p.Type); err == nil {
			if name, _ := gpt.TypeName(id); name == typ || strings.EqualFold(p.Type, typ) {
				if p.Label == cmp.Or(want.Label, want.ID) && p.Size >= int64(want.Size) && p.UUID != "" {
					return p
				}
			}
		}
	}
	return nil
}

// isPrepared reports whether a disk has the partitions of d, without content, or with that
// of the arrays: an earlier operation has made them.
func (s *Service) isPrepared(v *view, d *disk, at *blockdev.Disk) bool {
	for i := range d.config.Partitions {
		p := labelled(at, &d.config.Partitions[i])
		if p == nil || p.Content.Type != "" && !s.hasOurs(v, p) {
			return false
		}
	}
	return len(d.config.AdoptedPartitions) == 0
}

// hasOurs reports whether a partition has a superblock of an array of the configuration.
func (s *Service) hasOurs(v *view, p *blockdev.Partition) bool {
	dev, err := s.machine.Disks.Open(p.Path, false)
	if err != nil {
		return false
	}
	defer dev.Close()
	found, err := md.Examine(dev, dev.Size())
	return err == nil && v.isOurs(found)
}

// checkReplaceable fails unless the disk at can take the place of d: it is large enough and
// unused, nothing is lost with it, and d had only members of arrays.
func (s *Service) checkReplaceable(r *run, v *view, d *disk, at *blockdev.Disk) error {
	if len(d.config.AdoptedPartitions) > 0 {
		return errkind.Errorf(errkind.Unsupported, "it had adopted partitions, which Trident cannot make")
	}
	for _, id := range ids(d.config) {
		switch a := v.arrayOf(id); {
		case a != nil && a.config.Level == hostconfig.RAID0:
			return errkind.WithHint(errkind.Errorf(errkind.Precondition, "its partition %q was in array %q, of %s, which has no redundancy", id, a.config.ID, a.config.Level), "Install the host again.")
		case a == nil && v.isUsed(id):
			return errkind.WithHint(errkind.Errorf(errkind.Precondition, "its partition %q was in no array, so its content is lost", id), "Install the host again.")
		}
	}
	plan, err := v.planOf(d.config, r.State.Seed, s.machine.Arch)
	if err != nil {
		return err
	}
	return s.checkLosses(v, at, plan)
}

// isUsed reports whether the configuration uses a partition.
func (v *view) isUsed(id string) bool {
	s := v.spec
	used := slices.ContainsFunc(s.Filesystems, func(f hostconfig.Filesystem) bool { return f.DeviceID == id }) ||
		slices.ContainsFunc(s.Swap, func(w hostconfig.Swap) bool { return w.DeviceID == id }) ||
		slices.ContainsFunc(s.Verity, func(w hostconfig.Verity) bool { return w.DataDeviceID == id || w.HashDeviceID == id })
	for _, p := range storage.Pairs(s) {
		used = used || p.A == id || p.B == id
	}
	return used || s.Encryption != nil && slices.ContainsFunc(s.Encryption.Volumes, func(e hostconfig.EncryptedVolume) bool { return e.DeviceID == id })
}

// planOf plans the partitions of one disk of the configuration.
func (v *view) planOf(d *hostconfig.Disk, seed []byte, arch string) (*storage.Plan, error) {
	alone := &hostconfig.Storage{Disks: []hostconfig.Disk{*d}}
	return storage.NewPlan(alone, v.inv, storage.Request{For: storage.Install, Slot: slot.A, Seed: seed, Arch: arch})
}

// checkLosses fails if the plan would destroy anything but empty tables and old members of
// the arrays. The owner consents by wiping the disk.
func (s *Service) checkLosses(v *view, at *blockdev.Disk, plan *storage.Plan) error {
	members := 0
	for i := range at.Partitions {
		members += rank(s.hasOurs(v, &at.Partitions[i]))
	}
	var lost []string
	for _, l := range plan.Describe().Disks[0].Destroys {
		i := slices.IndexFunc(at.Partitions, func(p blockdev.Partition) bool { return p.Path == l.Path })
		switch {
		case l.What == "table", i >= 0 && s.hasOurs(v, &at.Partitions[i]), i >= 0 && l.Content == "" && members > 0:
			continue
		}
		lost = append(lost, l.String())
	}
	if len(lost) == 0 {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "%s would lose %s", at.Path, strings.Join(lost, "; "))
	return errkind.WithHint(err, "If nobody needs that, wipe it, then run rebuild-raid again: wipefs --all %s", strings.Join(append(partitionsOf(at), at.Path), " "))
}

func partitionsOf(d *blockdev.Disk) []string {
	var out []string
	for _, p := range d.Partitions {
		out = append(out, p.Path)
	}
	return out
}

// checkArray fails if an array cannot be rebuilt, and logs what is wrong with its members.
func (s *Service) checkArray(r *run, v *view, a array) error {
	if a.state.Kernel == "" {
		err := errkind.Errorf(errkind.Precondition, "no member survives: the array does not run")
		return errkind.WithHint(err, "If its members are there, start it: mdadm --assemble --run %s%s DEVICE... Otherwise install the host again.", md.Folder, a.config.Name)
	}
	if (a.state.UUID == md.UUID{}) {
		return errkind.Errorf(errkind.Unsupported, "no member of %s has a superblock of version 1 that can be read", a.state.Kernel)
	}
	inSync := a.state.Slots - a.state.Missing
	if least := a.state.Least(); inSync < least {
		return errkind.Errorf(errkind.Precondition, "%d of its %d members are in sync, and %s needs at least %d", inSync, a.state.Slots, a.state.Level, least)
	}
	for _, m := range a.state.Members {
		if m.Faulty {
			r.Logf(slog.LevelWarn, "array %q: member %s has failed", a.config.ID, m.Device)
		}
	}
	for _, id := range a.config.Devices {
		p := v.partition(id)
		switch {
		case p == nil:
			r.Logf(slog.LevelWarn, "array %q: the disk of member %q was replaced", a.config.ID, id)
		case memberOf(a.state, p.Path) != nil:
		case s.hasOurs(v, p):
			r.Logf(slog.LevelWarn, "array %q: member %q (%s) was kicked out", a.config.ID, id, p.Path)
		default:
			if err := s.checkAddable(p); err != nil {
				return err
			}
			r.Logf(slog.LevelWarn, "array %q: member %q (%s) is missing", a.config.ID, id, p.Path)
		}
	}
	return nil
}

// checkAddable fails if a partition of the host is in use, or has the content of others.
func (s *Service) checkAddable(p *blockdev.Partition) error {
	switch {
	case p.Use.InUse():
		return errkind.Errorf(errkind.Precondition, "%s cannot become a member: %s", p.Path, p.Use)
	case p.Content.Type != "":
		err := errkind.Errorf(errkind.Precondition, "%s cannot become a member: it has the content %s %s", p.Path, p.Content.Type, p.Content.Label)
		return errkind.WithHint(err, "If nobody needs that, wipe it, then run rebuild-raid again: wipefs --all %s", p.Path)
	}
	return nil
}
