package storage

import (
	"bytes"
	"encoding/binary"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// ContentHead is how many of the first bytes of a file system CheckContent wants.
const ContentHead = 68 << 10

// CheckContent returns nil if the kernel can mount the file system that begins with head
// from the Target of the device id. whole reports whether the file system takes all of a
// partition, so that Resize has nothing to do. The kind of an error is
// Unsupported for an unknown file system, Incompatible if the sectors of the disk are
// larger than the unit in which the kernel reads the file system, and NoSpace if the file
// system is larger than the partition.
//
// The kernel may refuse a file system for other reasons, such as blocks larger than a page.
// Only an attempt to mount it shows them.
func (p *Plan) CheckContent(id string, head []byte) (whole bool, err error) {
	target, err := p.Target(id)
	if err != nil {
		return false, err
	}
	c := blockdev.Probe(bytes.NewReader(head), int64(len(head)))
	if c.Type == "" {
		return false, errkind.Errorf(errkind.Unsupported, "it does not begin with a file system that this version supports")
	}
	unit, size := geometry(c.Type, append(bytes.Clone(head), make([]byte, max(0, ContentHead-len(head)))...))
	if sector := target.SectorSize; unit > 0 && unit < sector {
		err := errkind.Errorf(errkind.Incompatible, "it is %s in blocks of %d bytes, and its disk has sectors of %d: it cannot be mounted there", c.Type, unit, sector)
		return false, errkind.WithHint(err, "Build the image for disks with sectors of %d bytes, or name another disk.", sector)
	}
	l, layered := p.layer(target.ID) // then its size is not known to the byte
	if size > target.Size {
		on := "partition"
		if layered {
			on = string(l.Kind)
		}
		return false, errkind.Errorf(errkind.NoSpace, "it is %s of %d bytes, and its %s %q has %d", c.Type, size, on, target.ID, target.Size)
	}
	return !layered && unit > 0 && size/unit == target.Size/unit, nil
}

// geometry returns the smallest unit in which the kernel reads a file system, and the number
// of bytes of the device that the file system needs. 0 means unknown, or no such limit.
func geometry(typ string, head []byte) (unit, size int64) {
	le, be := binary.LittleEndian, binary.BigEndian
	switch typ {
	case "ext2", "ext3", "ext4":
		blocks, block, err := extSize(bytes.NewReader(head))
		if err != nil {
			return 0, 0
		}
		return block, blocks * block
	case "xfs": // xfs_dsb: sb_sectsize, and sb_dblocks of sb_blocksize
		return int64(be.Uint16(head[102:])), int64(be.Uint64(head[8:])) * int64(be.Uint32(head[4:]))
	case "vfat", "ntfs": // BPB_BytsPerSec
		return int64(le.Uint16(head[11:])), 0
	case "exfat":
		return 1 << min(head[108], 12), 0
	case "erofs":
		return 1 << min(head[1024+12], 16), 0
	case "iso9660":
		return 2048, 0
	}
	return 0, 0
}
