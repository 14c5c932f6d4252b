package image

import (
	"strings"

	"github.com/trident-project/trident/internal/linux/gpt"
)

// ESP is the partition type of an EFI system partition.
const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

// partTypes are the types of the Discoverable Partitions Specification that are
// the same on every machine, and those of two architectures: the name, the type
// on x86-64 and the one on arm64. Where systemd and Host Configurations have two
// names for one type, both are here.
func partTypes() [][3]string {
	return [][3]string{
		{"esp", ESP, ESP},
		{"xbootldr", "bc13c2ff-59e6-4262-a352-b275fd6f7172", "bc13c2ff-59e6-4262-a352-b275fd6f7172"},
		{"swap", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"},
		{"home", "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "933ac7e1-2eb4-4f13-b844-0e14e2aef915"},
		{"srv", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"},
		{"var", "4d21b016-b534-45c2-a9fb-5c16e091fd2d", "4d21b016-b534-45c2-a9fb-5c16e091fd2d"},
		{"tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1", "7ec6f557-3bc5-4aca-b293-16ef5df639d1"},
		{"user-home", "773f91ef-66d4-49b5-bd83-d683bf40ad16", "773f91ef-66d4-49b5-bd83-d683bf40ad16"},
		{"linux-generic", "0fc63daf-8483-4772-8e79-3d69d8477de4", "0fc63daf-8483-4772-8e79-3d69d8477de4"},
		{"root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"},
		{"root-verity", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "df3300ce-d69f-4c92-978c-9bfb0f38d820"},
		{"root-verity-sig", "41092b05-9fc8-4523-994f-2def0408b176", "6db69de6-29f4-4758-a7a5-962190f00ce3"},
		{"usr", "8484680c-9521-48c6-9c11-b0720656f69e", "b0e01050-ee5f-4390-949a-9101b17104e9"},
		{"usr-verity", "77ff5f63-e7b6-4633-acf4-1565b864c0e6", "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"},
		{"usr-verity-sig", "e7bb33fb-06cf-4e81-8273-e543b413e2e2", "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"},
	}
}

// ParsePartType reads a GUID or a name. A name that has a type for each
// architecture is that of arch, or of the one that it ends with (root-x86-64,
// usr-arm64-verity).
func ParsePartType(s string, arch Arch) (gpt.GUID, bool) {
	if g, err := gpt.ParseGUID(s); err == nil {
		return g, true
	}
	name := strings.ToLower(s)
	for mark, of := range map[string]Arch{"-x86-64": AMD64, "-arm64": ARM64} {
		if before, after, ok := strings.Cut(name, mark); ok && (after == "" || after[0] == '-') {
			name, arch = before+after, of
		}
	}
	for _, t := range partTypes() {
		if t[0] != name {
			continue
		}
		text := t[1]
		if arch == ARM64 {
			text = t[2]
		}
		g, err := gpt.ParseGUID(text)
		return g, err == nil
	}
	return gpt.GUID{}, false
}

// partTypeArch is the architecture that a type is for, or "" when it is for all.
func partTypeArch(g gpt.GUID) Arch {
	text := g.String()
	for _, t := range partTypes() {
		switch {
		case t[1] == t[2]:
		case t[1] == text:
			return AMD64
		case t[2] == text:
			return ARM64
		}
	}
	return ""
}

// PartTypeName is the name of a type, without its architecture, or "".
func PartTypeName(g gpt.GUID) string {
	text := g.String()
	for _, t := range partTypes() {
		if t[1] == text || t[2] == text {
			return t[0]
		}
	}
	return ""
}
