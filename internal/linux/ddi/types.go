package ddi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/linux/gpt"
)

// Arch is an architecture in the words of extension-release.
type Arch string

// The architectures that Trident is made for.
const (
	AMD64 Arch = "x86-64"
	ARM64 Arch = "arm64"
)

type role string

const (
	roleData role = "data"
	roleHash role = "verity"
	roleSig  role = "signature"
)

// partType is the meaning of a GPT type UUID.
type partType struct {
	arch Arch
	usr  bool // the files of /usr alone, not of the root
	role role
}

// String returns the start of the partition's label.
func (t partType) String() string {
	if t.usr {
		return "usr-" + string(t.arch)
	}
	return "root-" + string(t.arch)
}

// suffixes returns the part of a type's name (gpt.TypeByName) after root or usr.
func suffixes() map[role]string {
	return map[role]string{roleData: "", roleHash: "-verity", roleSig: "-verity-sig"}
}

func typeOf(id gpt.GUID) (partType, bool) {
	name, machine := gpt.TypeName(id)
	tree, suffix, more := strings.Cut(name, "-")
	if more {
		suffix = "-" + suffix
	}
	for r, s := range suffixes() {
		if s == suffix && (tree == "root" || tree == "usr") {
			return partType{map[string]Arch{"amd64": AMD64, "arm64": ARM64}[machine], tree == "usr", r}, true
		}
	}
	return partType{}, false
}

// idOf returns the type UUID of t; false if the architecture is not AMD64 or ARM64.
func idOf(t partType) (gpt.GUID, bool) {
	tree := "root"
	if t.usr {
		tree = "usr"
	}
	machine := map[Arch]string{AMD64: "amd64", ARM64: "arm64"}[t.arch]
	return gpt.TypeByName(tree+suffixes()[t.role], machine)
}

// inOrder returns a copy of all, sorted by the places of the partitions.
func inOrder(all []gpt.Partition) []gpt.Partition {
	out := slices.Clone(all)
	slices.SortFunc(out, func(a, b gpt.Partition) int { return cmp.Compare(a.First, b.First) })
	return out
}
