package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

var (
	signature = [8]byte{'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T'}
	revision1 = uint32(0x00010000)
)

// header is the on-disk form of the header, without the reserved rest of its sector
// (UEFI 2.10, table 5.5).
type header struct {
	Signature           [8]byte
	Revision            uint32
	Size                uint32
	CRC                 uint32
	Reserved            uint32
	Self, Other         uint64
	FirstUsable         uint64
	LastUsable          uint64
	DiskID              GUID
	Array               uint64
	EntryCount          uint32
	EntrySize, ArrayCRC uint32
}

type entry struct {
	Type, ID    GUID
	First, Last uint64
	Attributes  uint64
	Name        [nameUnits]uint16
}

// Read reads the table of a disk of size bytes. It fails with kind Corrupt, and names
// the first fault, unless the protective MBR, both headers and both arrays are whole and
// agree.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	sectors, err := sectorsOf(size)
	if err != nil {
		return nil, err
	}
	head := make([]byte, OverheadFront)
	if err := readFull(r, head, 0); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	primary, err := parseHeader(head[sector:2*sector], "primary")
	if err != nil {
		return nil, err
	}
	if err := checkExtent(primary, sectors); err != nil {
		return nil, err
	}
	if err := checkMBR(head[:sector], sectors); err != nil {
		return nil, err
	}
	tail := make([]byte, OverheadBack)
	if err := readFull(r, tail, size-OverheadBack); err != nil {
		return nil, fmt.Errorf("read backup partition table: %w", err)
	}
	backup, err := parseHeader(tail[arraySize:], "backup")
	if err != nil {
		return nil, err
	}
	if err := checkPair(primary, backup, sectors); err != nil {
		return nil, err
	}
	array := head[2*sector:]
	if crc32.ChecksumIEEE(array) != primary.ArrayCRC {
		return nil, corrupt("the partition entries do not match their checksum")
	}
	if !bytes.Equal(array, tail[:arraySize]) {
		return nil, corrupt("the backup partition entries differ from the primary ones")
	}
	t := &Table{DiskID: primary.DiskID.swapped(), Size: size}
	if t.Partitions, err = parseEntries(array); err != nil {
		return nil, err
	}
	return t, t.check()
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return corrupt("truncated at byte %d", off+int64(n))
	}
	return err
}

func parseHeader(b []byte, which string) (*header, error) {
	var h header
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return nil, fmt.Errorf("read %s partition table header: %w", which, err)
	}
	if h.Signature != signature {
		return nil, corrupt("there is no %s partition table header", which)
	}
	sum := bytes.Clone(b[:headerSize])
	clear(sum[16:20])
	switch {
	case h.Revision != revision1 || h.Size != headerSize:
		return nil, corrupt("the %s partition table header has revision %#x and %d bytes, not %#x and %d", which, h.Revision, h.Size, revision1, headerSize)
	case crc32.ChecksumIEEE(sum) != h.CRC:
		return nil, corrupt("the %s partition table header does not match its checksum", which)
	case h.Reserved != 0 || !zero(b[headerSize:]):
		return nil, corrupt("the reserved bytes of the %s partition table header are not zero", which)
	case h.EntryCount != entryCount || h.EntrySize != entrySize:
		return nil, corrupt("the %s partition table has %d entries of %d bytes, not %d of %d", which, h.EntryCount, h.EntrySize, entryCount, entrySize)
	}
	return &h, nil
}

// checkExtent fails unless the table is for a disk of this size. Read calls it before it
// reads the end of the disk, so that the error for a truncated file says so.
func checkExtent(h *header, sectors uint64) error {
	switch {
	case h.Other >= sectors:
		return corrupt("truncated: the partition table is for %d sectors, there are %d", h.Other+1, sectors)
	case h.Other+1 < sectors:
		return corrupt("there are %d sectors after the end that the partition table gives", sectors-h.Other-1)
	}
	return nil
}

func checkPair(p, b *header, sectors uint64) error {
	last := sectors - 1
	switch {
	case p.Self != 1 || p.Array != 2:
		return corrupt("the primary partition table is not at the start of the disk")
	case b.Self != last || b.Other != 1 || b.Array != last-arrayBlocks:
		return corrupt("the backup partition table is not at the end of the disk")
	case p.DiskID != b.DiskID || p.ArrayCRC != b.ArrayCRC || p.FirstUsable != b.FirstUsable || p.LastUsable != b.LastUsable:
		return corrupt("the backup partition table header differs from the primary one")
	case p.FirstUsable < front || p.LastUsable > last-back || p.FirstUsable > p.LastUsable:
		return corrupt("the usable sectors %d to %d do not lie between the partition tables", p.FirstUsable, p.LastUsable)
	}
	return nil
}

// checkMBR fails unless b is a protective MBR and nothing else (UEFI 2.10, 5.2.3).
func checkMBR(b []byte, sectors uint64) error {
	if !bytes.Equal(b, protectiveMBR(sectors)) {
		return corrupt("the first sector is not a protective MBR for %d sectors", sectors)
	}
	return nil
}

func parseEntries(array []byte) ([]Partition, error) {
	var out []Partition
	for i := range entryCount {
		raw := array[i*entrySize : (i+1)*entrySize]
		if zero(raw) {
			continue
		}
		if len(out) != i {
			return nil, corrupt("partition entry %d follows an unused one", i+1)
		}
		var e entry
		if _, err := binary.Decode(raw, binary.LittleEndian, &e); err != nil {
			return nil, fmt.Errorf("read partition entry %d: %w", i+1, err)
		}
		name, ok := decodeName(e.Name)
		if !ok {
			return nil, corrupt("the name of partition %d is not valid UTF-16 padded with zeros", i+1)
		}
		out = append(out, Partition{Type: e.Type.swapped(), ID: e.ID.swapped(), First: e.First, Last: e.Last, Attributes: e.Attributes, Name: name})
	}
	return out, nil
}

func decodeName(units [nameUnits]uint16) (string, bool) {
	n := 0
	for n < len(units) && units[n] != 0 {
		n++
	}
	name := string(utf16.Decode(units[:n]))
	again, ok := encodeName(name)
	return name, ok && again == units
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
