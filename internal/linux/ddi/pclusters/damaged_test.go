package pclusters

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

var errRead = errors.New("input/output error")

// volume returns a file system of 4 KiB blocks: the superblock in block 0, and in
// block 1 the inode 0, of a file of 5 bytes, and its index.
func volume() []byte {
	le := binary.LittleEndian
	b := make([]byte, 3*4096)
	sb := b[superblock:]
	le.PutUint32(sb[sbMagic:], magic)
	sb[sbBlockBits] = 12
	le.PutUint32(sb[sbMeta:], 1)
	le.PutUint32(sb[sbIncompat:], paddedFront)
	inode := b[4096:]
	le.PutUint16(inode, layoutCompact<<1)
	le.PutUint32(inode[8:], 5)
	return b
}

// broken cannot be read.
type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func TestADamagedSuperblockIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Open(bytes.NewReader(volume())); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte){
		"another magic number": func(b []byte) { b[superblock]++ },
		"tiny blocks":          func(b []byte) { b[superblock+sbBlockBits] = 8 },
		"huge blocks":          func(b []byte) { b[superblock+sbBlockBits] = 17 },
	} {
		b := volume()
		change(b)
		if _, err := Open(bytes.NewReader(b)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(bytes.NewReader(volume()[:superblock+10])); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "ends before byte") {
		t.Errorf("a short file system: %v", err)
	}
	if _, err := Open(broken{}); !errors.Is(err, errRead) {
		t.Errorf("an image that cannot be read: %v", err)
	}
}

func TestADamagedInodeIsRefused(t *testing.T) {
	t.Parallel()
	const inode, header = 4096, 4096 + 32
	for _, c := range []struct {
		name   string
		nid    uint64
		change func(b []byte)
		kind   errkind.Kind // "": opened
		says   string
	}{
		{"whole", 0, func([]byte) {}, "", ""},
		{"with attributes", 0, func(b []byte) { b[inode+2] = 2 }, "", ""},
		{"extended", 0, func(b []byte) { b[inode] |= 1 }, "", ""},
		{"an impossible number", 1 << 50, func([]byte) {}, errkind.Corrupt, "impossible inode number"},
		{"behind the end", 1 << 20, func([]byte) {}, errkind.Corrupt, "ends before byte"},
		{"not compressed", 0, func(b []byte) { b[inode] = 0 }, errkind.Corrupt, "inode 0 is not of a compressed file"},
		{"of negative size", 0, func(b []byte) { b[inode] |= 1; b[inode+15] = 0x80 }, errkind.Corrupt, "is not of a compressed file"},
		{"with a full index", 0, func(b []byte) { b[inode] = layoutFull << 1 }, errkind.Unsupported, "with a full index"},
		{"with an unknown option", 0, func(b []byte) { b[header+5] = 0x80 }, errkind.Unsupported, "with the options 0x8000"},
		{"a fragment", 0, func(b []byte) { b[header+7] = 0x80 }, errkind.Unsupported, "with the options"},
		{"of huge logical clusters", 0, func(b []byte) { b[header+7] = 3 }, errkind.Unsupported, "in logical clusters of 32768 bytes"},
		{"at the end, without an index", (2*4096 - 32) / 32, func(b []byte) { copy(b[3*4096-32:], b[inode:inode+32]) }, errkind.Corrupt, "ends before byte"},
	} {
		b := volume()
		c.change(b)
		v, err := Open(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		f, err := v.File(c.nid)
		if (err == nil) != (c.kind == "") || err != nil && (errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v (%s)", c.name, err, errkind.Of(err))
		}
		if err != nil {
			continue
		}
		if f.Size() != 5 {
			t.Errorf("%s: %d bytes", c.name, f.Size())
		}
		if _, err := f.ReadAt(make([]byte, 1), -1); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: read before the beginning: %v", c.name, err)
		}
		if n, err := f.ReadAt(make([]byte, 1), 5); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: read at the end: %d, %v", c.name, n, err)
		}
		// The index of zeros says that the bytes are those of block 1, not compressed.
		got := make([]byte, 5)
		if n, err := f.ReadAt(got, 0); n != 5 || err != nil || !bytes.Equal(got, b[inode:inode+5]) {
			t.Errorf("%s: %q, %v", c.name, got[:n], err)
		}
	}
}

func TestAnIndexThatEndsTooEarlyIsRefused(t *testing.T) {
	t.Parallel()
	x, err := newIndex(bytes.NewReader(make([]byte, 8)), 4096, 4, 12, false, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.entry(0); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("%v", err)
	}
	if err := (&unpackers{}).unpack(1, make([]byte, 4), []byte("x")); errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "LZMA") {
		t.Errorf("LZMA: %v", err)
	}
	for _, a := range []algorithm{lz4, deflate, zstds} {
		if err := (&unpackers{}).unpack(a, make([]byte, 4), []byte("x")); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("algorithm %d: %v", a, err)
		}
	}
}
