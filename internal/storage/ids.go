package storage

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"runtime"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const minSeed = 16

// derive returns a UUID (in the form of RFC 9562, version 4) that depends only on the seed
// and on what, the names of the thing that gets it.
func derive(seed []byte, what ...string) gpt.GUID {
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte(strings.Join(what, "\x00")))
	var id gpt.GUID
	copy(id[:], mac.Sum(nil))
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// typeID returns the UUID of a partition type for an architecture, by Go's name of it; ""
// is that of this program.
func typeID(t hostconfig.PartitionType, arch string) (gpt.GUID, error) {
	arch = cmp.Or(arch, runtime.GOARCH)
	if arch != "amd64" && arch != "arm64" {
		return gpt.GUID{}, errkind.Errorf(errkind.Unsupported, "there are no partition types for architecture %s", arch)
	}
	t = cmp.Or(t, hostconfig.PartitionLinuxGeneric)
	if t.IsName() {
		if id, ok := gpt.TypeByName(string(t), arch); ok {
			return id, nil
		}
	}
	return gpt.ParseGUID(string(t))
}

// typeName returns the word of the Host Configuration for the partition type id, or id.
func typeName(id string) string {
	if g, err := gpt.ParseGUID(id); err == nil {
		if name, _ := gpt.TypeName(g); hostconfig.PartitionType(name).IsName() {
			return name
		}
	}
	return id
}
