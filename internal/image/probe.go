package image

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/linux/gpt"
)

// probe returns the type of the file system in a partition, and its UUID as blkid prints
// it, or "" for an unknown one. It knows those that an image may have and that people still
// make.
func probe(r io.ReaderAt) (fsType, uuid string) {
	b := make([]byte, 68<<10)
	n, _ := r.ReadAt(b, 0) // a small partition is as if zeros followed
	clear(b[n:])
	switch {
	case binary.LittleEndian.Uint16(b[1024+56:]) == 0xef53:
		return extVersion(b[1024:]), guidText(b[1024+104:])
	case string(b[:4]) == "XFSB":
		return "xfs", guidText(b[32:])
	case string(b[0x10040:0x10048]) == "_BHRfS_M":
		return "btrfs", guidText(b[0x10020:])
	case b[510] == 0x55 && b[511] == 0xaa && string(b[82:87]) == "FAT32":
		return "vfat", serial(b[67:])
	case b[510] == 0x55 && b[511] == 0xaa && string(b[54:57]) == "FAT":
		return "vfat", serial(b[39:])
	case string(b[:4]) == "hsqs":
		return "squashfs", ""
	}
	return "", ""
}

// extVersion returns the type by the features, as blkid does: ext4 with a feature that only
// ext4 has, else ext3 with a journal.
func extVersion(super []byte) string {
	compat := binary.LittleEndian.Uint32(super[92:])
	incompat := binary.LittleEndian.Uint32(super[96:])
	const (
		hasJournal = 0x4
		only4      = 0x40 | 0x80 | 0x200 // extents, 64bit, flex_bg
	)
	switch {
	case incompat&only4 != 0:
		return "ext4"
	case compat&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// guidText returns the text of a UUID in the order of its bytes.
func guidText(b []byte) string { return gpt.GUID(b[:16]).String() }

// serial returns the text of the volume serial number of FAT.
func serial(b []byte) string {
	v := binary.LittleEndian.Uint32(b)
	return fmt.Sprintf("%04X-%04X", v>>16, v&0xffff)
}
