package gpt

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// GUID is a UUID in the byte order of its text (RFC 9562). On disk its first three
// fields are little-endian: see OnDisk.
type GUID [16]byte

// ParseGUID reads the 36 characters of the usual form, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, errkind.Errorf(errkind.Invalid, "read %q as a UUID: it is not of the form 8-4-4-4-12", s)
	}
	if n, err := hex.Decode(g[:], []byte(strings.ReplaceAll(s, "-", ""))); err != nil || n != len(g) {
		return GUID{}, errkind.Errorf(errkind.Invalid, "read %q as a UUID: it has characters that are not hexadecimal digits", s)
	}
	return g, nil
}

// String returns the usual form, in lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// MarshalText returns String, so that encoders of JSON and YAML print a UUID.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// swapped converts between the order of the text and that of the disk (UEFI,
// appendix A). It is its own inverse.
func (g GUID) swapped() GUID {
	g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
	g[4], g[5] = g[5], g[4]
	g[6], g[7] = g[7], g[6]
	return g
}

// OnDisk returns g in the byte order of a GPT and of the structures of UEFI.
func (g GUID) OnDisk() [16]byte { return g.swapped() }

// GUIDOnDisk is the inverse of OnDisk.
func GUIDOnDisk(b [16]byte) GUID { return GUID(b).swapped() }
