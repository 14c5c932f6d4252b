package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// checkSize fails if a file system claims to be larger than its partition or file, such as
// a truncated one. It accepts the file systems that claimedSize does not know.
func checkSize(v Volume) error {
	claimed, err := claimedSize(v.Data, v.Format)
	if err != nil {
		return fmt.Errorf("has a damaged %s: %w", v.Format, err)
	}
	if claimed > uint64(v.Data.Size()) {
		return fmt.Errorf("has a file system (%s) of %d bytes in a partition of %d", v.Format, claimed, v.Data.Size())
	}
	return nil
}

// A field is an unsigned number on disk.
type field struct {
	at    int64
	width int
	order binary.ByteOrder
}

func (f field) read(r io.ReaderAt) (uint64, error) {
	b := make([]byte, f.width)
	if _, err := r.ReadAt(b, f.at); err != nil {
		return 0, errors.New("its superblock is cut off")
	}
	switch f.width {
	case 1:
		return uint64(b[0]), nil
	case 4:
		return uint64(f.order.Uint32(b)), nil
	}
	return f.order.Uint64(b), nil
}

// claimedSize returns the size of a file system from its superblock, or 0 if it does not
// know the format. The superblocks of erofs and ext4 are in the kernel's
// Documentation/filesystems, that of squashfs in its fs/squashfs/squashfs_fs.h, those of
// xfs and btrfs in their on-disk format documents.
func claimedSize(r io.ReaderAt, f Format) (uint64, error) {
	le, be := binary.LittleEndian, binary.BigEndian
	switch f {
	case Erofs:
		return blocks(r, field{1024 + 36, 4, le}, field{1024 + 12, 1, le}, 0)
	case formatExt:
		return blocks(r, field{1024 + 4, 4, le}, field{1024 + 24, 4, le}, 10)
	case formatSquash:
		return field{40, 8, le}.read(r)
	case formatBtrfs:
		return field{64<<10 + 112, 8, le}.read(r)
	case formatXFS:
		size, err := field{4, 4, be}.read(r)
		if err != nil {
			return 0, err
		}
		count, err := field{8, 8, be}.read(r)
		if size > 1<<16 || count > 1<<40 {
			return 0, errors.New("its superblock has impossible values")
		}
		return size * count, err
	}
	return 0, nil
}

// blocks returns the number of blocks times their size. The disk has the logarithm of the
// size, minus base.
func blocks(r io.ReaderAt, count, log field, base uint) (uint64, error) {
	n, err := count.read(r)
	if err != nil {
		return 0, err
	}
	bits, err := log.read(r)
	if err != nil {
		return 0, err
	}
	if bits+uint64(base) > 20 {
		return 0, errors.New("its superblock has impossible values")
	}
	return n << (bits + uint64(base)), nil
}
