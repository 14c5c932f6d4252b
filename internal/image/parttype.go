package image

import (
	"strings"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// ParsePartType reads a GUID or a name of gpt.TypeByName. A name that has a type for each
// architecture means the type of arch, or of the architecture that the name has
// (root-x86-64, usr-arm64-verity).
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
	if arch != ARM64 { // a faulty osArch has a finding of its own
		arch = AMD64
	}
	return gpt.TypeByName(name, arch.Go())
}

// Go returns Go's name of a, as in GOARCH.
func (a Arch) Go() string {
	if name, err := arch.Parse(string(a)); err == nil {
		return name
	}
	return string(a)
}

// partTypeArch returns the architecture that a type is for, or "" if it is for all.
func partTypeArch(g gpt.GUID) Arch {
	_, name := gpt.TypeName(g)
	arch, _ := ParseArch(name)
	return arch
}

// PartTypeName returns the name of a type, without its architecture, or "".
func PartTypeName(g gpt.GUID) string {
	name, _ := gpt.TypeName(g)
	return name
}
