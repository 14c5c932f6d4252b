package gpt

import (
	"cmp"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Disk is the partition table of a disk that other tools write, too. Unlike Table it can
// be any table that Linux reads, has the kernel's partition numbers, and has offsets in
// bytes, for sectors of any size.
type Disk struct {
	ID         GUID
	Size       int64 // of the disk
	SectorSize int64
	Entries    []Entry // by number
	// BootCode is the start of the first sector, which firmware without UEFI
	// runs. Write writes it.
	BootCode [bootCodeSize]byte
	// Damaged says which copy of the table is damaged, and how; "" if both are whole.
	// The values of d are those of the other copy.
	Damaged string
}

// bootCodeSize is the size of the boot code and the disk signature of an MBR, before its
// records (UEFI 2.10, table 5.1).
const bootCodeSize = mbrEntry

// Entry is one partition of a Disk. Number counts from 1, as in /dev/sda1.
type Entry struct {
	Number       int
	Type, ID     GUID
	Offset, Size int64 // in bytes
	Attributes   uint64
	Name         string
	units        [nameUnits]uint16 // the name as it is on the disk
}

// MaxEntries is how many partitions a Disk can have.
const MaxEntries = entryCount

// FirstUsable returns the offset of the first byte after the primary table.
func FirstUsable(sectorSize int64) int64 { return 2*sectorSize + arraySize }

// EndUsable returns the offset of the backup table.
func EndUsable(size, sectorSize int64) int64 {
	return size/sectorSize*sectorSize - sectorSize - arraySize
}

// Equal reports whether both have the same ID, sizes and entries. It ignores BootCode and
// Damaged.
func (d *Disk) Equal(other *Disk) bool {
	return d.ID == other.ID && d.Size == other.Size && d.SectorSize == other.SectorSize &&
		slices.EqualFunc(d.Entries, other.Entries, func(a, b Entry) bool {
			a.units, b.units = [nameUnits]uint16{}, [nameUnits]uint16{}
			return a == b
		})
}

// Check fails, with errkind.Corrupt, if the values of d cannot be a partition table: for
// example a wrong sector size, a partition outside of the disk, partitions that overlap.
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

// noTable returns the error for a disk without a GPT.
func noTable(format string, args ...any) error {
	return errkind.Errorf(errkind.NotFound, format, args...)
}
