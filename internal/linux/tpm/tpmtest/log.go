package tpmtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/linux/tpm"
)

// FirmwareLog returns the events that are not of systemd in the binary form of a firmware's
// log, with SHA-1 digests of zeros beside those of SHA-256.
func FirmwareLog(l tpm.Log) []byte {
	const (
		noAction       = 3
		sha1, sha1Size = 4, 20
		sha256, size   = 11, 32
	)
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le.AppendUint32(spec, 2)
	for _, n := range []uint16{sha1, sha1Size, sha256, size} {
		spec = le.AppendUint16(spec, n)
	}
	spec = append(spec, 0)
	out := le.AppendUint32(make([]byte, 4), noAction)
	out = append(out, make([]byte, sha1Size)...)
	out = append(le.AppendUint32(out, uint32(len(spec))), spec...)
	for _, e := range l.Events {
		if e.Phase != "" {
			continue
		}
		out = le.AppendUint32(le.AppendUint32(out, uint32(e.Register)), e.Type)
		out = le.AppendUint32(out, 2)
		out = append(le.AppendUint16(out, sha1), make([]byte, sha1Size)...)
		out = append(le.AppendUint16(out, sha256), e.Digest[:]...)
		out = append(le.AppendUint32(out, uint32(len(e.Data))), e.Data...)
	}
	return out
}

// SystemLog returns the events of systemd in the form of its log.
func SystemLog(l tpm.Log) []byte {
	var out strings.Builder
	for _, e := range l.Events {
		if e.Phase != "" {
			fmt.Fprintf(&out, "\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":%q}],\"content_type\":\"systemd\",\"content\":{\"string\":%q,\"eventType\":\"phase\"}}\n", e.Register, e.Digest, e.Phase)
		}
	}
	return []byte(out.String())
}

// Variable returns the event that measures a variable of the firmware into register 7: its data
// have the form UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, 10.2.6).
func Variable(kind uint32, name, value string) tpm.Event {
	le := binary.LittleEndian
	data := le.AppendUint64(make([]byte, 16), uint64(len(name)))
	data = le.AppendUint64(data, uint64(len(value)))
	for _, c := range []byte(name) {
		data = append(data, c, 0)
	}
	data = append(data, value...)
	return tpm.Event{Register: tpm.PolicyRegister, Type: kind, Digest: sha256.Sum256(data), Data: data}
}
