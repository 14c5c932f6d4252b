package gpt

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Disk is the partition table of a disk that other tools have written to and
// that the kernel reads: unlike Table it takes every shape that Linux takes,
// has the kernel's partition numbers, and counts in bytes, for sectors of any
// size.
type Disk struct {
	ID         GUID
	Size       int64 // of the disk
	SectorSize int64
	Entries    []Entry // by number
	// BootCode is the start of the first sector, which firmware without UEFI
	// runs. Write keeps it.
	BootCode [bootCodeSize]byte
	// Damaged says what is wrong with the copy of the table that was not read,
	// or is "".
	Damaged string
}

// bootCodeSize is where boot code and disk signature of an MBR end and its
// records begin (UEFI 2.10, table 5.1).
const bootCodeSize = mbrEntry

// Entry is one partition of a Disk. Number counts from 1, as in /dev/sda1.
type Entry struct {
	Number       int
	Type, ID     GUID
	Offset, Size int64 // in bytes
	Attributes   uint64
	Name         string
	units        [nameUnits]uint16 // of the name as it was read
}

// MaxEntries is how many partitions a Disk can have.
const MaxEntries = entryCount

// FirstUsable is the first byte behind the table for sectors of that size.
func FirstUsable(sectorSize int64) int64 { return 2*sectorSize + arraySize }

// EndUsable is where the backup table begins on a disk.
func EndUsable(size, sectorSize int64) int64 {
	return size/sectorSize*sectorSize - sectorSize - arraySize
}

// Equal reports whether both say the same of the disk.
func (d *Disk) Equal(other *Disk) bool {
	return d.ID == other.ID && d.Size == other.Size && d.SectorSize == other.SectorSize &&
		slices.EqualFunc(d.Entries, other.Entries, func(a, b Entry) bool {
			a.units, b.units = [nameUnits]uint16{}, [nameUnits]uint16{}
			return a == b
		})
}

// Check reports what of the values in d cannot be a partition table: sectors, partitions
// outside of the disk, or over each other.
func (d *Disk) Check() error {
	switch d.SectorSize {
	case 512, 1024, 2048, 4096:
	default:
		return corrupt("sectors of %d bytes", d.SectorSize)
	}
	if d.Size > maxDisk {
		return corrupt("%d bytes are more than a partition table is read for", d.Size)
	}
	first, end := FirstUsable(d.SectorSize), EndUsable(d.Size, d.SectorSize)
	if end < first {
		return corrupt("%d bytes are too few to hold a partition table", d.Size)
	}
	for i, e := range d.Entries {
		switch {
		case e.Number < 1 || e.Number > entryCount || i > 0 && d.Entries[i-1].Number >= e.Number:
			return corrupt("partition %d is out of order, or more than the %d that a table has room for", e.Number, entryCount)
		case e.Type == (GUID{}):
			return corrupt("partition %d has no type", e.Number)
		case e.Offset%d.SectorSize != 0 || e.Size%d.SectorSize != 0:
			return corrupt("partition %d does not begin and end with a sector", e.Number)
		case e.Size <= 0 || e.Offset < first || e.Size > end || e.Offset > end-e.Size:
			return corrupt("partition %d (bytes %d to %d) does not lie between the partition tables", e.Number, e.Offset, e.Offset+e.Size)
		}
	}
	return d.checkOverlaps()
}

// maxDisk bounds the arithmetic: 2^60 bytes.
const maxDisk = 1 << 60

func (d *Disk) checkOverlaps() error {
	order := slices.Clone(d.Entries)
	slices.SortFunc(order, func(a, b Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; a.Offset+a.Size > b.Offset {
			return corrupt("partitions %d and %d overlap", a.Number, b.Number)
		}
	}
	return nil
}

// noTable is the error for a disk without a GPT.
func noTable(format string, args ...any) error {
	return errkind.Errorf(errkind.NotFound, format, args...)
}
