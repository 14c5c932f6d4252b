package hosttest

import (
	"encoding/binary"
	"testing/fstest"
)

// ELF returns the beginning of a program of 64 bits for a machine, by its number in ELF.
func ELF(machine uint16) *fstest.MapFile {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 3)
	binary.LittleEndian.PutUint16(b[18:], machine)
	return &fstest.MapFile{Data: b, Mode: 0o755}
}
