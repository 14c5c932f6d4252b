// Package gpt reads and writes GUID partition tables (UEFI 2.10, section 5.3).
//
// Read, for images, is strict, because an image may come from an attacker and the
// kernel and systemd read its table again: it accepts only the form that the common
// tools write, which all readers understand alike. Both headers and both arrays must
// be whole and agree, every reserved byte must be zero, and the table must be for a
// disk of exactly this size. ReadDisk, for disks of a host, also accepts a table of
// which one copy is damaged (Disk.Damaged), and that of a disk that has grown.
package gpt

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	sector      = 512
	entrySize   = 128
	entryCount  = 128
	arraySize   = entrySize * entryCount
	arrayBlocks = arraySize / sector
	headerSize  = 92
	nameUnits   = 36

	// Reserved sectors: at the start the protective MBR, the header and an array, at
	// the end an array and the header.
	front = 2 + arrayBlocks
	back  = 1 + arrayBlocks
)

// Overhead is the size of the table before and after the partitions, in bytes.
const (
	OverheadFront = front * sector
	OverheadBack  = back * sector
)

// Partition is one used entry of a table.
type Partition struct {
	Type, ID    GUID
	First, Last uint64 // sectors of 512 bytes, both inclusive
	Attributes  uint64
	Name        string // at most 36 UTF-16 units
}

// Offset returns the offset of the partition in bytes.
func (p Partition) Offset() int64 { return int64(p.First) * sector }

// Size returns the size of the partition in bytes.
func (p Partition) Size() int64 { return int64(p.Last-p.First+1) * sector }

// Table is the partition table of a disk of Size bytes. Partitions are in the
// order of their entries; the entries are used from the first on.
type Table struct {
	DiskID     GUID
	Partitions []Partition
	Size       int64
}

func corrupt(format string, args ...any) error {
	return errkind.Errorf(errkind.Corrupt, format, args...)
}

// check fails if t is not a valid table. Read and Write call it.
func (t *Table) check() error {
	sectors, err := sectorsOf(t.Size)
	if err != nil {
		return err
	}
	if len(t.Partitions) > entryCount {
		return corrupt("there are %d partitions, a table has room for %d", len(t.Partitions), entryCount)
	}
	ids := map[GUID]int{}
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) {
			return corrupt("partition %d has no type", i+1)
		}
		if p.ID == (GUID{}) {
			return corrupt("partition %d has no UUID", i+1)
		}
		if other, ok := ids[p.ID]; ok {
			return corrupt("partitions %d and %d have the same UUID %s", other, i+1, p.ID)
		}
		ids[p.ID] = i + 1
		if p.First > p.Last || p.First < front || p.Last >= sectors-back {
			return corrupt("partition %d (sectors %d to %d) does not lie between sectors %d and %d", i+1, p.First, p.Last, front, sectors-back-1)
		}
	}
	return checkOverlaps(t.Partitions)
}

func checkOverlaps(partitions []Partition) error {
	order := make([]int, len(partitions))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(partitions[a].First, partitions[b].First) })
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; partitions[a].Last >= partitions[b].First {
			return corrupt("partitions %d and %d overlap", a+1, b+1)
		}
	}
	return nil
}

// sectorsOf returns the number of sectors of a disk. It refuses more than 2^40, which
// bounds the arithmetic; no disk has as many.
func sectorsOf(size int64) (uint64, error) {
	switch {
	case size < (front+back)*sector:
		return 0, corrupt("%d bytes are too few to hold a partition table", size)
	case size%sector != 0:
		return 0, corrupt("%d bytes are not a whole number of %d-byte sectors", size, sector)
	case size/sector > 1<<40:
		return 0, corrupt("%d bytes are more than a partition table is read for", size)
	}
	return uint64(size) / sector, nil
}
