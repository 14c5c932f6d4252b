package hostinfo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/trident-project/trident/internal/linux/inroot"
)

// ID returns a public name, of 32 hexadecimal digits, of the host whose root folder is
// root, or "" if the host has no machine ID. ID derives the name from the machine ID, which
// must not be published itself (machine-id(5)).
func ID(root string) string {
	id, err := inroot.FS(root).ReadFile("etc/machine-id", 4096)
	text := strings.TrimSpace(string(id))
	if err != nil || len(text) != 32 {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(text))
	mac.Write([]byte("trident.setup.v1 host_id"))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
