package rebuild

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/storage"
)

// view is the disks and arrays of the configuration as they are at one moment.
type view struct {
	spec   *hostconfig.Storage
	inv    *blockdev.Inventory
	paths  map[string]string // of partitions, durable, by id
	disks  []*disk
	arrays []array
}

// disk is a disk of the configuration.
type disk struct {
	config *hostconfig.Disk
	// home is the disk with the recorded partitions; nil if there is none.
	home *blockdev.Disk
	// clones are other disks with partitions of the same UUIDs.
	clones []*blockdev.Disk
}

// array is an array of the configuration.
type array struct {
	config *hostconfig.SoftwareRAID
	state  md.State // zero if it does not run
}

func (s *Service) view(ctx context.Context, r *run) (*view, error) {
	config, err := r.State.Spec.Config()
	if err != nil {
		return nil, err
	}
	inv, err := s.machine.Inventory()
	if err != nil {
		return nil, err
	}
	running, err := s.machine.Disks.Arrays.Arrays(ctx)
	if err != nil {
		return nil, err
	}
	list := r.State.Paths
	if list == nil {
		list = r.State.Was
	}
	v := &view{spec: &config.Spec().Storage, inv: inv, paths: map[string]string{}}
	for _, p := range list {
		v.paths[p.ID] = p.Path
	}
	for i := range v.spec.Disks {
		v.disks = append(v.disks, v.locate(&v.spec.Disks[i], running))
	}
	for i := range v.spec.RAID.Software {
		a := array{config: &v.spec.RAID.Software[i]}
		if a.state, err = v.running(a.config, running); err != nil {
			return nil, err
		}
		v.arrays = append(v.arrays, a)
	}
	return v, nil
}

// locate finds the disk with the recorded partitions. Of several, which are clones of each
// other, it is the one with a member of a running array.
func (v *view) locate(d *hostconfig.Disk, running []md.State) *disk {
	out := &disk{config: d}
	var with []*blockdev.Disk
	for i := range v.inv.Disks {
		on := &v.inv.Disks[i]
		if slices.ContainsFunc(ids(d), func(id string) bool { return v.on(on, id) != nil }) {
			with = append(with, on)
		}
	}
	serves := func(on *blockdev.Disk) bool {
		return slices.ContainsFunc(on.Partitions, func(p blockdev.Partition) bool { return isMember(running, p.Path) })
	}
	slices.SortStableFunc(with, func(a, b *blockdev.Disk) int {
		return cmp.Compare(rank(serves(b)), rank(serves(a)))
	})
	if len(with) > 0 {
		out.home, out.clones = with[0], with[1:]
	}
	return out
}

func rank(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// isMember reports whether a device is a member of a running array, failed or not.
func isMember(running []md.State, device string) bool {
	return slices.ContainsFunc(running, func(st md.State) bool { return memberOf(st, device) != nil })
}

func memberOf(st md.State, device string) *md.Member {
	for i := range st.Members {
		if st.Members[i].Device == device {
			return &st.Members[i]
		}
	}
	return nil
}

// ids returns the ids of all partitions of a disk.
func ids(d *hostconfig.Disk) []string {
	var out []string
	for _, p := range d.Partitions {
		out = append(out, p.ID)
	}
	for _, p := range d.AdoptedPartitions {
		out = append(out, p.ID)
	}
	return out
}

// on returns the partition with that id on a disk, or nil.
func (v *view) on(d *blockdev.Disk, id string) *blockdev.Partition {
	at := v.paths[id]
	uuid, byUUID := strings.CutPrefix(at, storage.ByPartUUID)
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if at != "" && (byUUID && strings.EqualFold(p.UUID, uuid) || !byUUID && (p.Path == at || slices.Contains(p.Links, at))) {
			return p
		}
	}
	return nil
}

// partition returns the partition with that id on its disk, or nil.
func (v *view) partition(id string) *blockdev.Partition {
	if d := v.diskOf(id); d != nil && d.home != nil {
		return v.on(d.home, id)
	}
	return nil
}

// diskOf returns the disk that the configuration gives a partition.
func (v *view) diskOf(id string) *disk {
	i := slices.IndexFunc(v.disks, func(d *disk) bool { return slices.Contains(ids(d.config), id) })
	if i < 0 {
		return nil
	}
	return v.disks[i]
}

// running returns the running array that has a partition of the configuration as a member
// that did not fail; zero if there is none.
func (v *view) running(want *hostconfig.SoftwareRAID, running []md.State) (found md.State, err error) {
	for _, st := range running {
		has := slices.ContainsFunc(want.Devices, func(id string) bool {
			p := v.partition(id)
			m := (*md.Member)(nil)
			if p != nil {
				m = memberOf(st, p.Path)
			}
			return m != nil && !m.Faulty
		})
		switch {
		case has && found.Kernel != "":
			return found, errkind.Errorf(errkind.Precondition, "the members of array %q are in two arrays, %s and %s", want.ID, found.Kernel, st.Kernel)
		case has:
			found = st
		}
	}
	return found, nil
}

// isOurs reports whether the superblock is that of an array of the configuration.
func (v *view) isOurs(s md.Superblock) bool {
	return slices.ContainsFunc(v.arrays, func(a array) bool { return a.state.UUID == s.Array && a.state.UUID != md.UUID{} })
}

func pathsOf(m map[string]string) []path {
	out := []path{}
	for _, id := range slices.Sorted(maps.Keys(m)) {
		out = append(out, path{id, m[id]})
	}
	return out
}
