package rules

import (
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
)

// node is a block device, a file system or a swap of the document.
type node struct {
	path  string     // of its mapping in the document
	id    string     // "" for file systems and swap
	kind  deviceKind // "" for file systems and swap
	by    referrer
	refs  []ref
	part  *hostconfig.Partition // of a partition
	level hostconfig.RAIDLevel  // of an array
	mount string                // of a file system that is mounted
	esp   bool                  // of a file system that is the EFI system partition
	uniq  []field               // values that no other node of this kind may have
}

// ref is a reference of a node to a device below it.
type ref struct {
	path string // of the value that names it
	id   string
	role role
}

type field struct{ key, value string }

func (n *node) String() string {
	switch {
	case n.id != "":
		return fmt.Sprintf("%s %q", n.kind, n.id)
	case n.by == bySwap:
		return fmt.Sprintf("swap on %q", n.refs[0].id)
	case n.mount != "":
		return fmt.Sprintf("%s at %s", n.by, n.mount)
	}
	return string(n.by)
}

// graph is a storage section as nodes, ordered from disks up to file systems and swap.
type graph struct {
	nodes []*node
	byID  map[string]*node // the first of several with the same id
	below map[*node]*leaves
}

func (g *graph) add(n *node) {
	g.nodes = append(g.nodes, n)
	if n.id != "" && g.byID[n.id] == nil {
		g.byID[n.id] = n
	}
}

func newGraph(s *hostconfig.Storage) *graph {
	g := &graph{byID: map[string]*node{}, below: map[*node]*leaves{}}
	for i := range s.Disks {
		g.disk(fmt.Sprintf("storage.disks[%d]", i), &s.Disks[i])
	}
	for i, r := range s.RAID.Software {
		path := fmt.Sprintf("storage.raid.software[%d]", i)
		n := &node{path: path, id: r.ID, kind: aRAID, by: byRAID, level: r.Level, uniq: []field{{"name", r.Name}}}
		for j, id := range r.Devices {
			n.refs = append(n.refs, ref{fmt.Sprintf("%s.devices[%d]", path, j), id, anyRole})
		}
		g.add(n)
	}
	if s.ABUpdate != nil {
		for i, p := range s.ABUpdate.VolumePairs {
			path := fmt.Sprintf("storage.abUpdate.volumePairs[%d]", i)
			g.add(&node{path: path, id: p.ID, kind: aPair, by: byPair,
				refs: []ref{{path + ".volumeAId", p.VolumeAID, anyRole}, {path + ".volumeBId", p.VolumeBID, anyRole}}})
		}
	}
	if s.Encryption != nil {
		for i, v := range s.Encryption.Volumes {
			path := fmt.Sprintf("storage.encryption.volumes[%d]", i)
			g.add(&node{path: path, id: v.ID, kind: anEncrypt, by: byEncrypt, uniq: []field{{"deviceName", v.DeviceName}},
				refs: []ref{{path + ".deviceId", v.DeviceID, anyRole}}})
		}
	}
	for i, v := range s.Verity {
		path := fmt.Sprintf("storage.verity[%d]", i)
		g.add(&node{path: path, id: v.ID, kind: aVerity, by: byVerity, uniq: []field{{"name", v.Name}},
			refs: []ref{{path + ".dataDeviceId", v.DataDeviceID, dataRole}, {path + ".hashDeviceId", v.HashDeviceID, hashRole}}})
	}
	for i := range s.Filesystems {
		g.add(filesystemNode(fmt.Sprintf("storage.filesystems[%d]", i), &s.Filesystems[i]))
	}
	for i, sw := range s.Swap {
		path := fmt.Sprintf("storage.swap[%d]", i)
		g.add(&node{path: path, by: bySwap, refs: []ref{{path + ".deviceId", sw.DeviceID, anyRole}}})
	}
	return g
}

func (g *graph) disk(path string, d *hostconfig.Disk) {
	g.add(&node{path: path, id: d.ID, kind: aDisk, uniq: []field{{"device", d.Device}}})
	for i := range d.Partitions {
		p := &d.Partitions[i]
		g.add(&node{path: fmt.Sprintf("%s.partitions[%d]", path, i), id: p.ID, kind: aPartition, part: p,
			uniq: []field{{"uuid", string(p.UUID)}}})
	}
	for i, p := range d.AdoptedPartitions {
		g.add(&node{path: fmt.Sprintf("%s.adoptedPartitions[%d]", path, i), id: p.ID, kind: anAdopted,
			uniq: []field{{"matchLabel", p.MatchLabel}, {"matchUuid", string(p.MatchUUID)}}})
	}
}

func filesystemNode(path string, f *hostconfig.Filesystem) *node {
	n := &node{path: path}
	switch {
	case f.Source == hostconfig.FromNew:
		n.by = byNew
	case f.Source == hostconfig.FromAdopted:
		n.by = byAdopted
	case f.IsESP():
		n.by = byESP
	default:
		n.by = byImage
	}
	if f.MountPoint != nil {
		n.mount = f.MountPoint.Path
	}
	n.esp = f.IsESP()
	if f.DeviceID != "" {
		n.refs = []ref{{path + ".deviceId", f.DeviceID, anyRole}}
	}
	return n
}

// leaves summarizes the partitions below a node.
type leaves struct {
	types   []typed // one partition of each type, of the first few types
	size    hostconfig.Size
	mixed   bool   // some have another size
	growing string // the id of a partition without a fixed size
	any     bool   // there are partitions
}

type typed struct {
	kind hostconfig.PartitionType
	id   string
}

// fewTypes bounds the types in leaves, for documents with many made-up types.
const fewTypes = 16

func (l *leaves) merge(m *leaves) {
	for _, t := range m.types {
		if !slices.ContainsFunc(l.types, func(u typed) bool { return u.kind == t.kind }) && len(l.types) < fewTypes {
			l.types = append(l.types, t)
		}
	}
	l.mixed = l.mixed || m.mixed || l.any && m.any && l.size != m.size
	if !l.any {
		l.size = m.size
	}
	if l.growing == "" {
		l.growing = m.growing
	}
	l.any = l.any || m.any
}

// leavesOf returns the partitions below n, without the hash partitions of a verity
// device. It ignores a device that does not exist or is of a kind that n must not refer
// to. The recursion ends, because the allowed kinds (rules.go) form no cycle.
func (g *graph) leavesOf(n *node) *leaves {
	if l := g.below[n]; l != nil {
		return l
	}
	l := &leaves{}
	if n.part != nil {
		l = &leaves{types: []typed{{n.part.Type, n.id}}, size: n.part.Size, any: true}
		if !n.part.Size.Fixed() {
			l.growing = n.id
		}
	}
	for _, r := range n.refs {
		if r.role != hashRole {
			l.merge(g.leavesBelow(n, r))
		}
	}
	g.below[n] = l
	return l
}

// leavesBelow returns the leaves of the device that n refers to with r.
func (g *graph) leavesBelow(n *node, r ref) *leaves {
	if to := g.byID[r.id]; to != nil && slices.Contains(n.by.rule().devices, to.kind) {
		return g.leavesOf(to)
	}
	return &leaves{}
}
