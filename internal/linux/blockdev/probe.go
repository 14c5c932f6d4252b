package blockdev

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Content is the content of a device, in the terms of blkid(8). The zero value means
// unknown or empty.
type Content struct {
	Type  string `json:"type,omitempty"` // ext4, xfs, vfat, swap, crypto_LUKS, …
	UUID  string `json:"uuid,omitempty"`
	Label string `json:"label,omitempty"`
}

// probeSize covers all superblocks that Probe recognizes at the start of a device.
const probeSize = 68 << 10

// Probe recognizes the content of a device of size bytes by its magic numbers. It returns
// the zero value if it cannot read the device.
func Probe(r io.ReaderAt, size int64) Content {
	b := make([]byte, probeSize)
	n, _ := r.ReadAt(b[:min(probeSize, size)], 0)
	clear(b[n:])
	if c, ok := raidMember(r, size); ok {
		return c
	}
	for _, f := range []func([]byte) (Content, bool){probeMagic, probeExt, probeXFS, probeSwap, probeBtrfs, probeFAT} {
		if c, ok := f(b); ok {
			return c
		}
	}
	if zfsMember(r, size) {
		return Content{Type: "zfs_member"}
	}
	return Content{}
}

// Leftover recognizes signatures of a former use of the whole disk beside a partition
// table. Tools that probe whole disks, such as md and ZFS, would still use them.
func Leftover(r io.ReaderAt, size int64) Content {
	switch c := Probe(r, size); c.Type {
	case "linux_raid_member", "iso9660", "btrfs", "zfs_member":
		return c
	}
	return Content{}
}

// probeMagic recognizes content by a magic number alone.
func probeMagic(b []byte) (Content, bool) {
	for _, m := range []struct {
		at            int
		magic, typ    string
		uuid, uuidLen int // as text
	}{
		{0, "LUKS\xba\xbe", "crypto_LUKS", 168, 40},
		{0, "verity\x00\x00", HashTree, 0, 0},
		{0, "hsqs", "squashfs", 0, 0},
		{1024, "\xe2\xe1\xf5\xe0", "erofs", 0, 0},
		{512, "LABELONE", "LVM2_member", 0, 0},
		{32769, "CD001", "iso9660", 0, 0},
		{3, "NTFS    ", "ntfs", 0, 0},
		{3, "EXFAT   ", "exfat", 0, 0},
	} {
		if bytes.HasPrefix(b[m.at:], []byte(m.magic)) {
			return Content{Type: m.typ, UUID: text(b[m.uuid : m.uuid+m.uuidLen])}, true
		}
	}
	return Content{}, false
}

// probeExt recognizes ext2 to ext4 (kernel documentation, filesystems/ext4/super).
func probeExt(b []byte) (Content, bool) {
	s := b[1024:]
	if binary.LittleEndian.Uint16(s[56:]) != 0xef53 {
		return Content{}, false
	}
	const journal, extents, bit64, flexGroups = 0x4, 0x40, 0x80, 0x200
	typ := "ext2"
	if binary.LittleEndian.Uint32(s[92:])&journal != 0 {
		typ = "ext3"
	}
	if binary.LittleEndian.Uint32(s[96:])&(extents|bit64|flexGroups) != 0 {
		typ = "ext4"
	}
	return Content{typ, uuid(s[104:]), text(s[120:136])}, true
}

func probeXFS(b []byte) (Content, bool) {
	if !bytes.HasPrefix(b, []byte("XFSB")) {
		return Content{}, false
	}
	return Content{"xfs", uuid(b[32:]), text(b[108:120])}, true
}

// probeSwap recognizes swap space of a kernel with any page size from 4 KiB to 64 KiB.
func probeSwap(b []byte) (Content, bool) {
	for page := 4 << 10; page <= 64<<10; page *= 2 {
		if string(b[page-10:page]) == "SWAPSPACE2" {
			return Content{"swap", uuid(b[1036:]), text(b[1052:1068])}, true
		}
	}
	return Content{}, false
}

func probeBtrfs(b []byte) (Content, bool) {
	s := b[64<<10:]
	if string(s[64:72]) != "_BHRfS_M" {
		return Content{}, false
	}
	return Content{"btrfs", uuid(s[32:]), text(s[299:555])}, true
}

// probeFAT recognizes FAT by the strings that mkfs writes (Microsoft FAT
// specification 1.03, section 3).
func probeFAT(b []byte) (Content, bool) {
	if b[510] != 0x55 || b[511] != 0xaa {
		return Content{}, false
	}
	for _, f := range []struct {
		at     int
		strngs string
	}{{82, "FAT32"}, {54, "FAT16"}, {54, "FAT12"}} {
		if bytes.HasPrefix(b[f.at:], []byte(f.strngs)) {
			id := binary.LittleEndian.Uint32(b[f.at-15:])
			label := text(b[f.at-11 : f.at])
			if label == "NO NAME" {
				label = ""
			}
			return Content{"vfat", fmt.Sprintf("%04X-%04X", id>>16, id&0xffff), label}, true
		}
	}
	return Content{}, false
}

// RAIDPlaces returns the offsets, in the order in which they count, of an MD superblock of
// version 1.0, 1.1 and 1.2 on a device of size bytes (linux/raid/md_p.h, struct
// mdp_superblock_1). An offset is -1 if the device is too small for it.
func RAIDPlaces(size int64) [3]int64 {
	const space = 4096 // of a superblock
	places := [3]int64{(size/512 - 16) &^ 7 * 512, 0, space}
	for i, at := range places {
		if at < 0 || at > size-space {
			places[i] = -1
		}
	}
	return places
}

// raidMember recognizes a member of an array by an MD superblock, which may be damaged: one of
// version 1, or of 0.90 near the end. Only version 1 has a UUID and a name that raidMember
// returns.
func raidMember(r io.ReaderAt, size int64) (Content, bool) {
	magic := []byte{0xfc, 0x4e, 0x2b, 0xa9}
	b := make([]byte, 64)
	places := RAIDPlaces(size)
	for _, at := range append(places[:], size&^0xffff-64<<10) {
		if at < 0 {
			continue
		}
		if _, err := r.ReadAt(b, at); err != nil || !bytes.HasPrefix(b, magic) {
			continue
		}
		c := Content{Type: "linux_raid_member"}
		if binary.LittleEndian.Uint32(b[4:]) == 1 {
			c.UUID, c.Label = uuid(b[16:]), text(b[32:64])
		}
		return c, true
	}
	return Content{}, false
}

func uuid(b []byte) string {
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// text returns a label without its padding, or "" if it is not printable UTF-8.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	s := strings.TrimSpace(string(b))
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return s
}

// zfsMember reports whether one of the four labels of a ZFS vdev, 256 KiB each, has an
// uberblock: two are at the start, two at the end (OpenZFS, include/sys/vdev_impl.h).
func zfsMember(r io.ReaderAt, size int64) bool {
	const label, ring, step = 256 << 10, 128 << 10, 1 << 10
	end := size &^ (label - 1)
	array := make([]byte, label-ring)
	for _, at := range []int64{0, label, end - 2*label, end - label} {
		if at < 0 || at+label > size {
			continue
		}
		n, _ := r.ReadAt(array, at+ring)
		for b := array[:n]; len(b) >= step; b = b[step:] {
			const magic = 0x00bab10c
			if binary.LittleEndian.Uint64(b) == magic || binary.BigEndian.Uint64(b) == magic {
				return true
			}
		}
	}
	return false
}
