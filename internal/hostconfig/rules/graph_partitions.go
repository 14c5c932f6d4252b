package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
)

// checkPartitions checks the partitions below n, directly or through other devices.
func (c *checker) checkPartitions(g *graph, n *node) {
	rule := n.by.rule()
	below, said, sized := &leaves{}, false, false // a node below reports the fault already
	for _, r := range n.refs {
		l := g.leavesBelow(n, r)
		below.merge(l)
		said = said || len(l.types) > 1
		sized = sized || g.byID[r.id] != nil && g.byID[r.id].by.rule().sameSize && (l.mixed || l.growing != "")
		if r.role != anyRole {
			c.checkRoleTypes(r, l)
		}
	}
	for _, t := range below.types {
		if !rule.types.has(t.kind) || n.esp && t.kind != hostconfig.PartitionESP {
			c.addStorageFault(n.path, "InvalidPartitionType", "is on partition %q of type %s, which cannot be used for %s%s", t.id, t.kind, article(string(n.by)), knownAs(t.kind))
		}
	}
	if rule.sameType && len(below.types) > 1 && !said {
		a, b := below.types[0], below.types[1]
		c.addStorageFault(n.path, "PartitionTypeMismatch", "is on partitions of several types: %q is %s, and %q is %s%s", a.id, a.kind, b.id, b.kind, knownAs(a.kind)+knownAs(b.kind))
	}
	switch {
	case !rule.sameSize || sized:
	case below.growing != "":
		c.addStorageFault(n.path, "PartitionSizeNotFixed", "is on partition %q, whose size must be a number, not grow", below.growing)
	case below.mixed:
		c.addStorageFault(n.path, "PartitionSizeMismatch", "is on partitions of several sizes, and all must be as large")
	}
	if n.mount != "" && len(below.types) == 1 {
		t := below.types[0].kind
		if usual := usualMounts(nameOf(t)); usual != nil && !slices.Contains(usual, path.Clean(n.mount)) {
			c.warn(n.path+".mountPoint.path", "is %s, and a partition of type %s is usually mounted %s", n.mount, t, orNowhere(usual))
		}
	}
}

func (c *checker) checkRoleTypes(r ref, l *leaves) {
	_, allowed := r.role.rule()
	for _, t := range l.types {
		if !allowed.has(t.kind) {
			c.addStorageFault(r.path, "InvalidPartitionTypeSpecial", "partition %q is of type %s, and cannot have the %s of a verity device", t.id, t.kind, r.role)
		}
	}
	if len(l.types) > 1 {
		c.addStorageFault(r.path, "PartitionTypeMismatchSpecial", "is on partitions of several types")
	}
}

// checkHashPartition checks that the hashes of v are on the type of partition that belongs to its data.
func (c *checker) checkHashPartition(g *graph, v *hostconfig.Verity, at string) {
	data, hash := g.byID[v.DataDeviceID], g.byID[v.HashDeviceID]
	if data == nil || hash == nil {
		return
	}
	d, h := g.leavesOf(data).types, g.leavesOf(hash).types
	_, dataTypes := dataRole.rule()
	_, hashTypes := hashRole.rule()
	if len(d) != 1 || len(h) != 1 || !dataTypes.has(d[0].kind) || !hashTypes.has(h[0].kind) {
		return // other rules report these faults
	}
	// If the data is on a partition of the general type, any type for hashes is right.
	if want := hashType(d[0].kind); h[0].kind != want && want != hostconfig.PartitionLinuxGeneric {
		c.addStorageFault(at+".hashDeviceId", "InvalidVerityHashPartitionType",
			"partition %q is of type %s, and the hashes of data on a partition of type %s belong on one of type %s",
			h[0].id, h[0].kind, d[0].kind, want)
	}
}

// knownAs returns advice to write the name of a type that the document gives by UUID,
// because the rules compare names; "" if t has no name.
func knownAs(t hostconfig.PartitionType) string {
	if name := nameOf(t); name != t {
		return fmt.Sprintf(": the rules know the type %s by its name, so write type: %s", name, name)
	}
	return ""
}

func article(s string) string {
	if strings.ContainsRune("aeAE", rune(s[0])) {
		return "an " + s
	}
	return "a " + s
}

func articles[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = article(string(s))
	}
	return out
}

func orList[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func orNowhere(mounts []string) string {
	if len(mounts) == 0 {
		return "nowhere"
	}
	return "at " + orList(mounts)
}
