package gpt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Medium is a disk for Write. All writes before Sync survive a power cut after it.
type Medium interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Write replaces the table of a disk; after a power cut the disk has the old table or
// the new one. Write first reads the old one from m.
//
// The header of a GPT is one sector with the place and the checksum of the entries. So
// Write writes the new entries to free space, and then the header, which the disk writes
// wholly or not at all. It repeats both for the place where other tools expect the
// entries. If there is no free space, because a partition begins right after the table,
// the backup table is the valid one while Write writes the primary.
//
// Write calls touch with the name of each write, which includes a sync.
func (d *Disk) Write(m Medium, touch func(name string, change func() error) error) error {
	if err := d.Check(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	array, err := d.encode()
	if err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	for _, w := range d.writes(m, array) {
		err := touch(w.name, func() error {
			for _, p := range w.parts {
				if _, err := m.WriteAt(p.data, p.at); err != nil {
					return err
				}
			}
			return m.Sync()
		})
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

type write struct {
	name  string
	parts []part
}

type part struct {
	at   int64
	data []byte
}

// writes returns the writes that replace the table, in their order.
func (d *Disk) writes(m Medium, array []byte) []write {
	s := d.SectorSize
	last := d.Size/s - 1
	home, spare, tail := 2*s, 2*s+arraySize, EndUsable(d.Size, s)
	head := func(self, other, at, first int64) []byte {
		h := header{
			Signature: signature, Revision: revision1, Size: headerSize, DiskID: d.ID.swapped(),
			Self: uint64(self), Other: uint64(other), Array: uint64(at / s),
			FirstUsable: uint64(first / s), LastUsable: uint64(tail/s - 1),
			EntryCount: entryCount, EntrySize: entrySize, ArrayCRC: crc32.ChecksumIEEE(array),
		}
		return append(encodeHeader(h), make([]byte, s-sector)...)
	}
	backup := write{"write backup partition table", []part{{tail, array}, {last * s, head(last, 1, tail, spare)}}}
	primary := []write{
		{"write partition entries", []part{{home, array}}},
		{"write last partition table header", []part{{s, head(1, last, home, spare)}}},
		{"write protective MBR", []part{{0, d.mbr()}}},
	}
	old, err := ReadDisk(m, d.Size, s)
	switch {
	case err == nil && strings.HasPrefix(old.Damaged, damagedPrimary): // only the backup is valid
		return append(primary, backup)
	case err == nil && old.free(spare) && d.free(spare):
		primary = append([]write{
			{"write new partition entries", []part{{spare, array}}},
			{"write partition table header", []part{{s, head(1, last, spare, spare+arraySize)}}},
		}, primary...)
	}
	return append([]write{backup}, primary...)
}

// free reports whether no partition of d uses the space for a second array, at spare.
func (d *Disk) free(spare int64) bool {
	for _, e := range d.Entries {
		if e.Offset < spare+arraySize {
			return false
		}
	}
	return spare+arraySize < EndUsable(d.Size, d.SectorSize)
}

func (d *Disk) mbr() []byte {
	b := protectiveMBR(uint64(d.Size / d.SectorSize))
	copy(b, d.BootCode[:])
	return append(b, make([]byte, d.SectorSize-sector)...)
}

func (d *Disk) encode() ([]byte, error) {
	ids := map[GUID]int{}
	array := make([]byte, arraySize)
	for _, e := range d.Entries {
		if other, ok := ids[e.ID]; ok || e.ID == (GUID{}) {
			return nil, corrupt("partition %d has no UUID of its own (%s, as partition %d)", e.Number, e.ID, other)
		}
		ids[e.ID] = e.Number
		units, ok := encodeName(e.Name)
		if decodeAny(e.units) == e.Name {
			units, ok = e.units, true
		}
		if !ok {
			return nil, corrupt("the name of partition %d does not fit into %d UTF-16 units", e.Number, nameUnits)
		}
		first := uint64(e.Offset / d.SectorSize)
		mustEncode(array[(e.Number-1)*entrySize:], &entry{
			Type: e.Type.swapped(), ID: e.ID.swapped(), First: first, Last: first + uint64(e.Size/d.SectorSize) - 1,
			Attributes: e.Attributes, Name: units,
		})
	}
	return array, nil
}

// Written fails unless m has d in both copies, with the entries in their final places. It
// finds out whether the disk returns what Write has written.
func (d *Disk) Written(m io.ReaderAt) error {
	got, err := ReadDisk(m, d.Size, d.SectorSize)
	switch {
	case err != nil:
		return fmt.Errorf("read back partition table: %w", err)
	case !d.Equal(got):
		return corrupt("read back partition table: it is not the one that was written")
	case got.Damaged != "":
		return corrupt("read back partition table: %s", got.Damaged)
	}
	if h, err := got.header(m, 1); err != nil || h.Array != 2 {
		return errors.Join(corrupt("read back partition table: its entries are not in their final place yet"), err)
	}
	backup := &Disk{Size: d.Size, SectorSize: d.SectorSize}
	if err := backup.readAt(m, uint64(d.Size/d.SectorSize-1)); err != nil {
		return fmt.Errorf("read back backup partition table: %w", err)
	}
	if !d.Equal(backup) || !bytes.Equal(got.BootCode[:], d.BootCode[:]) {
		return corrupt("read back backup partition table: it is not the one that was written")
	}
	return nil
}

// NameFits reports whether a partition can have that name.
func NameFits(name string) bool {
	_, ok := encodeName(name)
	return ok
}
