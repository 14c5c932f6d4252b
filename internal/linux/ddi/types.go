package ddi

import (
	"cmp"
	"slices"

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

// partType is what a GPT type UUID stands for.
type partType struct {
	arch Arch
	usr  bool // a tree for /usr alone, rather than for the root
	role role
}

// String is the start of the partition's label.
func (t partType) String() string {
	if t.usr {
		return "usr-" + string(t.arch)
	}
	return "root-" + string(t.arch)
}

// typeRow pairs a type with its UUID (UAPI.2, Discoverable Partitions).
type typeRow struct {
	partType
	id string
}

func partTypes() []typeRow {
	return []typeRow{
		{partType{AMD64, false, roleData}, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"},
		{partType{AMD64, false, roleHash}, "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"},
		{partType{AMD64, false, roleSig}, "41092b05-9fc8-4523-994f-2def0408b176"},
		{partType{ARM64, false, roleData}, "b921b045-1df0-41c3-af44-4c6f280d3fae"},
		{partType{ARM64, false, roleHash}, "df3300ce-d69f-4c92-978c-9bfb0f38d820"},
		{partType{ARM64, false, roleSig}, "6db69de6-29f4-4758-a7a5-962190f00ce3"},
		{partType{AMD64, true, roleData}, "8484680c-9521-48c6-9c11-b0720656f69e"},
		{partType{AMD64, true, roleHash}, "77ff5f63-e7b6-4633-acf4-1565b864c0e6"},
		{partType{AMD64, true, roleSig}, "e7bb33fb-06cf-4e81-8273-e543b413e2e2"},
		{partType{ARM64, true, roleData}, "b0e01050-ee5f-4390-949a-9101b17104e9"},
		{partType{ARM64, true, roleHash}, "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"},
		{partType{ARM64, true, roleSig}, "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"},
	}
}

func typeOf(id gpt.GUID) (partType, bool) {
	text := id.String()
	for _, row := range partTypes() {
		if row.id == text {
			return row.partType, true
		}
	}
	return partType{}, false
}

// idOf is false for an architecture that is not in the table.
func idOf(t partType) (gpt.GUID, bool) {
	for _, row := range partTypes() {
		if row.partType == t {
			id, err := gpt.ParseGUID(row.id)
			return id, err == nil
		}
	}
	return gpt.GUID{}, false
}

// inOrder returns a copy sorted by where the partitions lie.
func inOrder(all []gpt.Partition) []gpt.Partition {
	out := slices.Clone(all)
	slices.SortFunc(out, func(a, b gpt.Partition) int { return cmp.Compare(a.First, b.First) })
	return out
}
