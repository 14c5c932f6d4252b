package rebuild

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/storage"
)

// Plan returns what the operation would do to the disks and arrays as they are now, and changes
// nothing. It fails as the operation would before its first change. Without Steps all arrays are
// whole.
func (s *Service) Plan(ctx context.Context, st change.State) (*change.Plan, error) {
	p, err := newProgress(st)
	if err != nil {
		return nil, err
	}
	out := &change.Plan{Kind: change.Kind(OpRebuild), Effective: st.Runs}
	r := operation.Rehearse("plan", p, out.Warn)
	if err := s.check(ctx, r); err != nil {
		return nil, err
	}
	v, err := s.view(ctx, r)
	if err != nil {
		return nil, err
	}
	if out.Storage, err = s.describe(r, v); err != nil {
		return nil, err
	}
	added := v.lacking(r)
	for _, step := range []change.PlannedStep{
		{Name: "partition", Effects: partitions(out.Storage)},
		{Name: "add", Effects: adds(v, added)},
		{Name: "sync", Effects: copies(added)},
		{Name: "boot entries", Effects: redirects(r, v)},
		{Name: "record", Effects: records(r)},
	} {
		if len(step.Effects) > 0 {
			out.Steps = append(out.Steps, step)
		}
	}
	if len(out.Steps) == 0 {
		out.Kind = change.None
	}
	return out, nil
}

// describe returns the plans of the disks that get a new partition table; nil if none does.
func (s *Service) describe(r *run, v *view) (*storage.Description, error) {
	var out *storage.Description
	for _, n := range r.State.Disks {
		i := slices.IndexFunc(v.spec.Disks, func(c hostconfig.Disk) bool { return c.ID == n.ID })
		plan, err := v.planOf(&v.spec.Disks[i], r.State.Seed, s.machine.Arch)
		if err != nil {
			return nil, fmt.Errorf("disk %q: %w", n.ID, err)
		}
		d := plan.Describe()
		if out == nil {
			out = &storage.Description{For: "rebuild"}
		}
		out.Disks = append(out.Disks, d.Disks...)
	}
	return out, nil
}

// addition is a member that an array gets.
type addition struct {
	array  *hostconfig.SoftwareRAID
	member string // its id
	device string // "" if Trident makes the partition
	size   int64  // how many bytes the kernel copies to it at most
}

// lacking returns the members that the arrays lack.
func (v *view) lacking(r *run) []addition {
	var out []addition
	for _, a := range v.arrays {
		for _, id := range a.config.Devices {
			isNew := slices.ContainsFunc(r.State.Disks, func(n newDisk) bool {
				return slices.Contains(ids(v.diskOf(id).config), id) && n.ID == v.diskOf(id).config.ID
			})
			p := v.partition(id)
			if p != nil && !isNew {
				if m := memberOf(a.state, p.Path); m != nil && !m.Faulty {
					continue
				}
			}
			add := addition{array: a.config, member: id, size: v.smallest(a)}
			if p != nil && !isNew {
				add.device = p.Path
			}
			out = append(out, add)
		}
	}
	return out
}

// smallest returns the size of the smallest partition that the array has now.
func (v *view) smallest(a array) (size int64) {
	for _, id := range a.config.Devices {
		if p := v.partition(id); p != nil && memberOf(a.state, p.Path) != nil && (size == 0 || p.Size < size) {
			size = p.Size
		}
	}
	return size
}

func partitions(d *storage.Description) []change.Effect {
	var out change.Effects
	if d == nil {
		return nil
	}
	for _, disk := range d.Disks {
		for _, l := range disk.Destroys {
			out.Add("destroy-"+l.What, l.Path, "destroy %s", l)
		}
		out.Add("partition-disk", disk.ID, "give disk %s (%s) a new partition table with %d partitions", disk.ID, disk.Path, len(disk.Partitions))
	}
	return out
}

func adds(v *view, added []addition) []change.Effect {
	var out change.Effects
	for _, a := range v.arrays {
		for _, m := range a.state.Members {
			if m.Faulty {
				out.Add("remove-member", m.Device, "remove the failed member %s from array %s", m.Device, a.config.ID)
			}
		}
	}
	for _, a := range added {
		where := a.device
		if where == "" {
			where = "the new partition"
		}
		out.Add("add-member", a.member, "add member %s (%s) to array %s", a.member, where, a.array.ID)
	}
	return out
}

func copies(added []addition) []change.Effect {
	var out change.Effects
	for _, a := range added {
		out.Add("copy-member", a.member, "copy at most %d MiB to member %s of array %s; what that member contained is lost", (a.size+1<<20-1)>>20, a.member, a.array.ID)
	}
	return out
}

// redirects says for which partitions the boot entries change: those of an ESP on a new disk.
func redirects(r *run, v *view) []change.Effect {
	var out change.Effects
	for _, n := range r.State.Disks {
		i := slices.IndexFunc(v.spec.Disks, func(c hostconfig.Disk) bool { return c.ID == n.ID })
		for _, p := range v.spec.Disks[i].Partitions {
			if p.Type == hostconfig.PartitionESP {
				out.Add("redirect-boot", p.ID, "point the boot entries of the previous disk to partition %s", p.ID)
			}
		}
	}
	return out
}

func records(r *run) []change.Effect {
	var out change.Effects
	for _, n := range r.State.Disks {
		out.Add("record-disk", n.ID, "record the new identity of disk %s", n.ID)
	}
	for _, p := range r.State.Paths {
		if !slices.Contains(r.State.Was, p) {
			out.Add("record-partition", p.ID, "record the new path of partition %s", p.ID)
		}
	}
	return out
}

// newProgress returns the record with which the operation begins. It fails with
// errkind.Precondition if the host was never provisioned, or has no arrays.
func newProgress(st change.State) (progress, error) {
	switch {
	case st.Runs == nil:
		return progress{}, errkind.WithName(errkind.Errorf(errkind.Precondition, "this host was never provisioned"), errkind.NameHostNotProvisioned)
	case len(st.Runs.Spec().Storage.RAID.Software) == 0:
		return progress{}, errkind.WithName(errkind.Errorf(errkind.Precondition, "the configuration of this host has no arrays"), errkind.NameValidateRebuildRaid)
	}
	return progress{Spec: st.Runs.Recorded(), Seed: []byte(rand.Text()), Index: st.Status.InstallIndex, Was: pathsOf(st.Status.PartitionPaths)}, nil
}
