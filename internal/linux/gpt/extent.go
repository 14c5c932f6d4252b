package gpt

import (
	"fmt"
	"io"
)

// maxSectors bounds the arithmetic; no disk has as many sectors.
const maxSectors = 1 << 40

// Extent reads only the primary header, for a caller that has only the beginning of a
// disk. It returns the offset of the end of the entries, and the size of the disk, which
// ends with its backup header; both in bytes. sectorSize is 512 or 4096.
func Extent(r io.ReaderAt, sectorSize int64) (front, size int64, err error) {
	d := &Disk{Size: maxSectors * sectorSize, SectorSize: sectorSize}
	h, err := d.header(r, 1)
	if err != nil {
		return 0, 0, fmt.Errorf("read partition table: %w", err)
	}
	if h.Other <= h.Array || h.Other >= maxSectors {
		return 0, 0, fmt.Errorf("read partition table: %w", corrupt("the header has its backup at sector %d", h.Other))
	}
	array := int64(h.EntryCount) * int64(h.EntrySize)
	front = int64(h.Array)*sectorSize + (array+sectorSize-1)/sectorSize*sectorSize
	return front, int64(h.Other+1) * sectorSize, nil
}
