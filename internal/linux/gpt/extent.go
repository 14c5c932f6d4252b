package gpt

import (
	"fmt"
	"io"
)

// maxSectors bounds what is computed with, and is more than any disk has.
const maxSectors = 1 << 40

// Extent reads the primary header alone, for who has no more than the front of a
// disk: where its entries end, and how large the disk is by the place that it
// gives for its backup, in bytes. sectorSize is 512 or 4096.
func Extent(r io.ReaderAt, sectorSize int64) (front, size int64, err error) {
	d := &Disk{Size: maxSectors * sectorSize, SectorSize: sectorSize}
	h, err := d.header(r, 1)
	if err != nil {
		return 0, 0, fmt.Errorf("read partition table: %w", err)
	}
	if h.Other <= h.Array || h.Other >= maxSectors {
		return 0, 0, fmt.Errorf("read partition table: %w", corrupt("the backup is said to be at sector %d", h.Other))
	}
	array := int64(h.EntryCount) * int64(h.EntrySize)
	front = int64(h.Array)*sectorSize + (array+sectorSize-1)/sectorSize*sectorSize
	return front, int64(h.Other+1) * sectorSize, nil
}
