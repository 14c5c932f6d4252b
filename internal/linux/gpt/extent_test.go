package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

// frontOf is the front of a disk with a header of 92 bytes and no partitions.
func frontOf(lba, count, size int) []byte {
	d := make([]byte, 2*lba+count*size)
	h := header{Signature: signature, Revision: revision1, Size: headerSize, Self: 1, Other: 9999, Array: 2,
		EntryCount: uint32(count), EntrySize: uint32(size), ArrayCRC: crc32.ChecksumIEEE(d[2*lba:])}
	copy(d[lba:], encodeHeader(h))
	return d
}

func TestTheFrontOfADiskSaysHowLargeBothAre(t *testing.T) {
	for _, c := range []struct{ lba, count, size int }{{512, 128, 128}, {512, 4, 256}, {512, 3, 128}, {4096, 128, 128}} {
		front, size, err := Extent(bytes.NewReader(frontOf(c.lba, c.count, c.size)), int64(c.lba))
		want := int64(2*c.lba + (c.count*c.size+c.lba-1)/c.lba*c.lba)
		if err != nil || front != want || size != 10000*int64(c.lba) {
			t.Errorf("%+v: %d, %d, %v", c, front, size, err)
		}
	}
	d := written(t, sample())
	front, size, err := Extent(bytes.NewReader(d[:OverheadFront]), 512)
	if err != nil || front != OverheadFront || size != int64(len(d)) {
		t.Errorf("%d, %d, %v", front, size, err)
	}
}

func TestHostileFrontsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		off int
		v   uint64
	}{
		"no backup": {32, 0}, "a backup in the table": {32, 2}, "a disk of 2^64": {32, 1<<64 - 1}, "many entries": {80, 1 << 31}, "no entries": {80, 0},
		"an array far away": {72, 1 << 60}, "an array over the header": {72, 1}, "another place": {24, 7}, "a long header": {12, 4096},
	} {
		d := frontOf(512, 128, 128)
		if c.off == 80 || c.off == 12 {
			binary.LittleEndian.PutUint32(d[sector+c.off:], uint32(c.v))
		} else {
			binary.LittleEndian.PutUint64(d[sector+c.off:], c.v)
		}
		clear(d[sector+16 : sector+20])
		binary.LittleEndian.PutUint32(d[sector+16:], crc32.ChecksumIEEE(d[sector:sector+headerSize]))
		if _, _, err := Extent(bytes.NewReader(d), 512); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range 1024 {
		if _, _, err := Extent(bytes.NewReader(frontOf(512, 128, 128)[:n]), 512); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}
