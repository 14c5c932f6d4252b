package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// maxArray bounds the array of a foreign table, which may have more entries
// and larger ones than ours.
const maxArray = 1 << 20

const damagedPrimary = "primary table: "

// ReadDisk reads the table of a disk of size bytes: the primary table, or the backup if
// the primary is damaged. It fails with kind NotFound if the disk has no GPT, and with
// kind Corrupt if both tables are damaged or have impossible values.
func ReadDisk(r io.ReaderAt, size, sectorSize int64) (*Disk, error) {
	d := &Disk{Size: size, SectorSize: sectorSize}
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	mbr := make([]byte, sector)
	if err := readFull(r, mbr, 0); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if !protective(mbr) {
		return nil, noTable("there is no GUID partition table")
	}
	copy(d.BootCode[:], mbr)
	last := uint64(size/sectorSize - 1)
	primary := d.readAt(r, 1)
	if primary == nil {
		if b, err := d.header(r, d.alternate(r, last)); err != nil {
			d.Damaged = "backup table: " + err.Error()
		} else if b.DiskID.swapped() != d.ID {
			d.Damaged = "backup table: it is of another disk"
		}
		return d, nil
	}
	if err := d.readAt(r, last); err != nil {
		return nil, fmt.Errorf("read partition table: primary: %w; backup: %w", primary, err)
	}
	d.Damaged = damagedPrimary + primary.Error()
	return d, nil
}

// HasBackup reports whether a disk ends with a valid header of a backup table. If it does
// and ReadDisk finds no table, the beginning of the disk has been overwritten.
func HasBackup(r io.ReaderAt, size, sectorSize int64) bool {
	d := &Disk{Size: size, SectorSize: sectorSize}
	if d.Check() != nil {
		return false
	}
	_, err := d.header(r, uint64(size/sectorSize-1))
	return err == nil
}

// protective reports whether one of the records of an MBR says that the disk has a GPT.
// It ignores boot code and other records.
func protective(mbr []byte) bool {
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return false
	}
	for i := range 4 {
		if mbr[mbrEntry+16*i+4] == 0xee {
			return true
		}
	}
	return false
}

// alternate returns the sector of the backup header, from the primary header: on a disk
// that has grown it is not the last sector.
func (d *Disk) alternate(r io.ReaderAt, last uint64) uint64 {
	if h, err := d.header(r, 1); err == nil && h.Other > 1 && h.Other <= last {
		return h.Other
	}
	return last
}

func (d *Disk) header(r io.ReaderAt, at uint64) (*header, error) {
	b := make([]byte, d.SectorSize)
	if err := readFull(r, b, int64(at)*d.SectorSize); err != nil {
		return nil, err
	}
	var h header
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	switch {
	case h.Signature != signature:
		return nil, corrupt("there is no header")
	case h.Size < headerSize || int64(h.Size) > d.SectorSize:
		return nil, corrupt("the header has %d bytes", h.Size)
	}
	sum := b[:h.Size]
	clear(sum[16:20])
	array := uint64(h.EntryCount) * uint64(h.EntrySize)
	switch {
	case crc32.ChecksumIEEE(sum) != h.CRC:
		return nil, corrupt("the header does not match its checksum")
	case h.Self != at:
		return nil, corrupt("the header is for another place")
	case h.EntrySize < entrySize || h.EntrySize%entrySize != 0 || array == 0 || array > maxArray:
		return nil, corrupt("%d entries of %d bytes", h.EntryCount, h.EntrySize)
	case h.Array < 2 || h.Array > uint64(d.Size/d.SectorSize):
		return nil, corrupt("the entries are not on the disk")
	}
	return &h, nil
}

func (d *Disk) readAt(r io.ReaderAt, at uint64) error {
	h, err := d.header(r, at)
	if err != nil {
		return err
	}
	array := make([]byte, h.EntryCount*h.EntrySize)
	if err := readFull(r, array, int64(h.Array)*d.SectorSize); err != nil {
		return err
	}
	if crc32.ChecksumIEEE(array) != h.ArrayCRC {
		return corrupt("the entries do not match their checksum")
	}
	d.ID, d.Entries = h.DiskID.swapped(), nil
	for i := range int(h.EntryCount) {
		e, used, err := d.entry(array[i*int(h.EntrySize):], i+1)
		if err != nil {
			return err
		}
		if used {
			d.Entries = append(d.Entries, e)
		}
	}
	return d.Check()
}

// entry reads an entry of at least entrySize bytes. It returns false for one that is not used.
func (d *Disk) entry(raw []byte, number int) (Entry, bool, error) {
	if GUID(raw[:16]) == (GUID{}) {
		return Entry{}, false, nil // as most are
	}
	var e entry
	if _, err := binary.Decode(raw, binary.LittleEndian, &e); err != nil {
		return Entry{}, false, fmt.Errorf("read partition entry %d: %w", number, err)
	}
	if sectors := uint64(d.Size / d.SectorSize); e.First > e.Last || e.Last >= sectors {
		return Entry{}, false, corrupt("partition %d (sectors %d to %d) is not on the disk", number, e.First, e.Last)
	}
	out := Entry{
		Number: number, Type: e.Type.swapped(), ID: e.ID.swapped(), Attributes: e.Attributes, units: e.Name,
		Offset: int64(e.First) * d.SectorSize, Size: int64(e.Last-e.First+1) * d.SectorSize,
	}
	out.Name = decodeAny(e.Name)
	return out, true, nil
}

// decodeAny returns a name; it ignores the padding.
func decodeAny(units [nameUnits]uint16) string {
	n := 0
	for n < len(units) && units[n] != 0 {
		n++
	}
	return string(utf16.Decode(units[:n]))
}
