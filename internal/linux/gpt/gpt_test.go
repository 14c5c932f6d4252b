package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
)

// disk is a file in memory.
type disk []byte

func (d disk) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(d)) {
		return 0, io.ErrShortWrite
	}
	return copy(d[off:], p), nil
}

func guid(n byte) GUID { return GUID{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 15: n} }

func sample() *Table {
	return &Table{
		DiskID: guid(9), Size: 200 * sector,
		Partitions: []Partition{
			{Type: guid(1), ID: guid(2), First: 40, Last: 99, Attributes: 1 << 60, Name: "root-x86-64"},
			{Type: guid(3), ID: guid(4), First: 104, Last: 104, Name: "Größe 🗄"},
		},
	}
}

func written(tb testing.TB, t *Table) disk {
	tb.Helper()
	d := make(disk, t.Size)
	if err := Write(d, t); err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestATableReadsAsItWasWritten(t *testing.T) {
	for _, want := range []*Table{sample(), {DiskID: guid(1), Size: (front + back + 1) * sector}} {
		d := written(t, want)
		got, err := Read(bytes.NewReader(d), int64(len(d)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAPartitionKnowsItsBytes(t *testing.T) {
	p := Partition{First: 40, Last: 47}
	if p.Offset() != 20480 || p.Size() != 4096 {
		t.Errorf("offset %d, size %d", p.Offset(), p.Size())
	}
}

func TestTheTableLiesOnDiskAsUEFISays(t *testing.T) {
	d := written(t, sample())
	tests := []struct {
		what string
		at   int
		want []byte
	}{
		{"protective record", 446, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 199, 0, 0, 0}},
		{"MBR signature", 510, []byte{0x55, 0xaa}},
		{"header", 512, []byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")},
		{"disk GUID, mixed-endian", 512 + 56, []byte{0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x77, 0, 0, 0, 0, 0, 0, 0, 9}},
		{"name in UTF-16", 1024 + 56, []byte{'r', 0, 'o', 0, 'o', 0, 't', 0, '-', 0}},
		{"backup header", 199 * 512, []byte("EFI PART")},
	}
	for _, tt := range tests {
		if got := d[tt.at : tt.at+len(tt.want)]; !bytes.Equal(got, tt.want) {
			t.Errorf("%s: % x, want % x", tt.what, got, tt.want)
		}
	}
}

func TestEveryByteOfATableCounts(t *testing.T) {
	d := written(t, sample())
	for at := range d {
		if at >= OverheadFront && at < len(d)-OverheadBack {
			continue
		}
		for _, bit := range []byte{0x01, 0x80, 0xff} {
			d[at] ^= bit
			if _, err := Read(bytes.NewReader(d), int64(len(d))); errkind.Of(err) != errkind.Corrupt {
				t.Errorf("byte %d ^ %#x: %v", at, bit, err)
			}
			d[at] ^= bit
		}
	}
}

// resum makes the checksums right again after a change to a table.
func resum(d disk) {
	for _, h := range []struct{ at, array int }{{sector, 2 * sector}, {len(d) - sector, len(d) - OverheadBack}} {
		b := d[h.at : h.at+headerSize]
		binary.LittleEndian.PutUint32(b[88:], crc32.ChecksumIEEE(d[h.array:h.array+arraySize]))
		clear(b[16:20])
		binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b))
	}
}

// both changes a field of both headers, or of both arrays.
func header8(d disk, off int, v uint64) {
	binary.LittleEndian.PutUint64(d[sector+off:], v)
	binary.LittleEndian.PutUint64(d[len(d)-sector+off:], v)
}

func entryBytes(d disk, n, off int, v ...byte) {
	copy(d[2*sector+n*entrySize+off:], v)
	copy(d[len(d)-OverheadBack+n*entrySize+off:], v)
}

func TestHostileTablesAreRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(d disk) disk
		want  string
	}{
		{"cut short by a sector", func(d disk) disk { return d[:len(d)-sector] }, "truncated: the partition table is for 200 sectors, there are 199"},
		{"cut short to half", func(d disk) disk { return d[:100*sector] }, "truncated: the partition table is for 200 sectors, there are 100"},
		{"cut within a sector", func(d disk) disk { return d[:len(d)-1] }, "are not a whole number of 512-byte sectors"},
		{"nearly nothing", func(d disk) disk { return d[:1024] }, "too few"},
		{"bytes behind the end", func(d disk) disk { return append(d, make([]byte, 1024)...) }, "there are 2 sectors after the end"},
		{"only zeros", func(d disk) disk { clear(d); return d }, "there is no primary partition table header"},
		{"no backup", func(d disk) disk { clear(d[len(d)-sector:]); return d }, "there is no backup partition table header"},
		{"boot code", func(d disk) disk { d[0] = 0xeb; return d }, "not a protective MBR"},
		{"a hybrid MBR", func(d disk) disk { d[mbrEntry+16+4] = 0x83; return d }, "not a protective MBR"},
		{"an entry size of 0", func(d disk) disk { binary.LittleEndian.PutUint32(d[sector+84:], 0); resum(d); return d }, "128 entries of 0 bytes"},
		{"2^32-1 entries", func(d disk) disk { binary.LittleEndian.PutUint32(d[sector+80:], 1<<32-1); resum(d); return d }, "4294967295 entries"},
		{"a long header", func(d disk) disk { binary.LittleEndian.PutUint32(d[sector+12:], 512); resum(d); return d }, "and 512 bytes"},
		{"an array elsewhere", func(d disk) disk { header8(d, 72, 50); resum(d); return d }, "not at the start"},
		{"a backup array elsewhere", func(d disk) disk {
			binary.LittleEndian.PutUint64(d[len(d)-sector+72:], 50)
			resum(d)
			return d
		}, "not at the end"},
		{"usable sectors over the table", func(d disk) disk { header8(d, 40, 1); resum(d); return d }, "usable sectors 1 to"},
		{"usable sectors to the end", func(d disk) disk { header8(d, 48, 1<<63); resum(d); return d }, "usable sectors"},
		{"another disk in the backup", func(d disk) disk { d[len(d)-sector+56]++; resum(d); return d }, "differs from the primary"},
		{"another array in the backup", func(d disk) disk {
			d[len(d)-OverheadBack+arraySize-1] = 1
			sum := binary.LittleEndian.Uint32(d[sector+88:])
			resum(d)
			b := d[len(d)-sector:]
			binary.LittleEndian.PutUint32(b[88:], sum)
			clear(b[16:20])
			binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
			return d
		}, "the backup partition entries differ"},
		{"no type", func(d disk) disk { entryBytes(d, 0, 0, make([]byte, 16)...); resum(d); return d }, "partition 1 has no type"},
		{"no UUID", func(d disk) disk { entryBytes(d, 0, 16, make([]byte, 16)...); resum(d); return d }, "partition 1 has no UUID"},
		{"one UUID twice", func(d disk) disk { g := guid(2).swapped(); entryBytes(d, 1, 16, g[:]...); resum(d); return d }, "have the same UUID"},
		{"partitions that overlap", func(d disk) disk { entryBytes(d, 1, 32, 99); resum(d); return d }, "partitions 1 and 2 overlap"},
		{"a partition over the table", func(d disk) disk { entryBytes(d, 0, 32, 33); resum(d); return d }, "partition 1 (sectors 33 to 99) does not lie"},
		{"a partition over the backup", func(d disk) disk { entryBytes(d, 1, 40, 167); resum(d); return d }, "partition 2 (sectors 104 to 167) does not lie"},
		{"a partition that ends at 2^64-1", func(d disk) disk { entryBytes(d, 1, 40, bytes.Repeat([]byte{0xff}, 8)...); resum(d); return d }, "does not lie"},
		{"a partition backwards", func(d disk) disk { entryBytes(d, 1, 40, 103); resum(d); return d }, "does not lie"},
		{"a hole between entries", func(d disk) disk { entryBytes(d, 0, 0, make([]byte, entrySize)...); resum(d); return d }, "partition entry 2 follows an unused one"},
		{"a name that goes on after its end", func(d disk) disk { entryBytes(d, 0, 56+70, 'x', 0); resum(d); return d }, "name of partition 1"},
		{"a name with half a surrogate", func(d disk) disk { entryBytes(d, 0, 56, 0x00, 0xd8); resum(d); return d }, "name of partition 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.spoil(written(t, sample()))
			_, err := Read(bytes.NewReader(d), int64(len(d)))
			if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Corrupt {
				t.Errorf("got %v (%s), want %q", err, errkind.Of(err), tt.want)
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestAReadErrorIsNotCalledCorrupt(t *testing.T) {
	_, err := Read(brokenReader{}, 1<<20)
	if err == nil || errkind.Of(err) != errkind.Internal || !strings.Contains(err.Error(), "read partition table: input/output error") {
		t.Errorf("got %v (%s)", err, errkind.Of(err))
	}
	if _, err := Read(bytes.NewReader(nil), 1<<20); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a file shorter than it says: %v", err)
	}
}

func TestATableThatCannotBeReadIsNotWritten(t *testing.T) {
	tests := map[string]func(*Table){
		"overlap":   func(t *Table) { t.Partitions[1].First = 50 },
		"long name": func(t *Table) { t.Partitions[0].Name = strings.Repeat("x", 37) },
		"NUL":       func(t *Table) { t.Partitions[0].Name = "a\x00b" },
		"too many":  func(t *Table) { t.Partitions = make([]Partition, 129) },
		"too large": func(t *Table) { t.Size = 1 << 62 },
		"odd size":  func(t *Table) { t.Size++ },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			table := sample()
			spoil(table)
			d := make(disk, 1<<20)
			if err := Write(d, table); err == nil {
				t.Error("it was written")
			}
			if !zero(d) {
				t.Error("something was written")
			}
		})
	}
}

func TestGUIDs(t *testing.T) {
	const text = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	g, err := ParseGUID(strings.ToUpper(text))
	if err != nil || g.String() != text || g[0] != 0x4f {
		t.Errorf("%s, %v", g, err)
	}
	if b, _ := g.MarshalText(); string(b) != text {
		t.Errorf("as text %s", b)
	}
	if g.swapped().swapped() != g || g.swapped()[0] != 0xe3 {
		t.Errorf("swapped %s", g.swapped())
	}
	for _, bad := range []string{"", text[1:], text + "0", "4f68bce3-e8cd-4db1-96e7-fbcaf984b70g", strings.ReplaceAll(text, "-", "0"), "4f68bce3-e8cd-4db1-96e7--bcaf984b709"} {
		if _, err := ParseGUID(bad); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	bases := [][]byte{written(f, sample()), written(f, &Table{DiskID: guid(1), Size: 100 * sector})}
	for base := range bases {
		f.Add(uint8(base), uint32(0), []byte{})
		f.Add(uint8(base), uint32(sector), damage.At(2*sector+32, 41))
	}
	f.Fuzz(func(t *testing.T, base uint8, missing uint32, edits []byte) {
		b := damage.Apply(bases[int(base)%len(bases)], edits)
		b = b[:len(b)-int(missing)%len(b)]
		if len(b) > OverheadFront+OverheadBack {
			resum(b) // or nothing behind the checksums is ever reached
		}
		table, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Errorf("kind %s: %v", errkind.Of(err), err)
			}
			return
		}
		again := written(t, table)
		copy(again[OverheadFront:len(again)-OverheadBack], b[OverheadFront:])
		// Only the first and last usable sector are not ours to choose.
		for _, at := range []int{sector, len(b) - sector} {
			copy(again[at+40:at+56], b[at+40:at+56])
		}
		resum(again)
		if !bytes.Equal(again, b) {
			t.Error("a table that is read has bytes that say nothing")
		}
	})
}
