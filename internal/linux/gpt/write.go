package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// mbrEntry is the offset of the only partition record of a protective MBR.
const mbrEntry = 446

// Write writes the protective MBR, the primary and the backup table of a disk of t.Size
// bytes, and does not change the bytes between them. It is not atomic: use it for a file
// that nobody uses yet. It fails, before it writes, for a table that Read would refuse.
func Write(w io.WriterAt, t *Table) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	array, err := encodeEntries(t.Partitions)
	if err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	sectors := uint64(t.Size) / sector
	last := sectors - 1
	h := header{
		Signature: signature, Revision: revision1, Size: headerSize,
		FirstUsable: front, LastUsable: last - back, DiskID: t.DiskID.swapped(),
		EntryCount: entryCount, EntrySize: entrySize, ArrayCRC: crc32.ChecksumIEEE(array),
	}
	primary, backup := h, h
	primary.Self, primary.Other, primary.Array = 1, last, 2
	backup.Self, backup.Other, backup.Array = last, 1, last-arrayBlocks

	head := append(protectiveMBR(sectors), encodeHeader(primary)...)
	if _, err := w.WriteAt(append(head, array...), 0); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if _, err := w.WriteAt(append(array, encodeHeader(backup)...), t.Size-OverheadBack); err != nil {
		return fmt.Errorf("write backup partition table: %w", err)
	}
	return nil
}

func protectiveMBR(sectors uint64) []byte {
	b := make([]byte, sector)
	rec := b[mbrEntry:]
	copy(rec, []byte{0, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(rec[8:], 1)
	binary.LittleEndian.PutUint32(rec[12:], uint32(min(sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

func encodeHeader(h header) []byte {
	b := make([]byte, sector)
	h.CRC = 0
	mustEncode(b, &h)
	h.CRC = crc32.ChecksumIEEE(b[:headerSize])
	mustEncode(b, &h)
	return b
}

// mustEncode encodes v, which has a fixed size, into b, which has room for it.
func mustEncode(b []byte, v any) { _, _ = binary.Encode(b, binary.LittleEndian, v) }

func encodeEntries(partitions []Partition) ([]byte, error) {
	array := make([]byte, arraySize)
	for i, p := range partitions {
		name, ok := encodeName(p.Name)
		if !ok {
			return nil, corrupt("the name of partition %d does not fit into %d UTF-16 units", i+1, nameUnits)
		}
		e := entry{Type: p.Type.swapped(), ID: p.ID.swapped(), First: p.First, Last: p.Last, Attributes: p.Attributes, Name: name}
		mustEncode(array[i*entrySize:], &e)
	}
	return array, nil
}

func encodeName(s string) (units [nameUnits]uint16, ok bool) {
	enc := utf16.Encode([]rune(s))
	if len(enc) > nameUnits || strings.ContainsRune(s, 0) {
		return units, false
	}
	copy(units[:], enc)
	return units, true
}
