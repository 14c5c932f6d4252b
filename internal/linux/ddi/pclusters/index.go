package pclusters

import (
	"encoding/binary"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// lclusterType is what an entry of the index says of its lcluster.
type lclusterType uint8

// The types, by their numbers on disk.
const (
	plain lclusterType = iota // a head of data that is not compressed
	head1                     // a head of data in the first algorithm
	inner                     // no extent begins here
	head2                     // a head of data in the second algorithm
)

// entry describes one lcluster.
type entry struct {
	kind   lclusterType
	offset int64 // of a head: where in the lcluster the extent begins
	block  int64 // of a head: the first block of the pcluster
	// blocks is the number of blocks of the pcluster, in the entry behind its head if it has
	// several blocks; else 0.
	blocks int64
}

// hasBlocks marks, in the number of an inner entry, the number of blocks of a pcluster. Other
// numbers of inner entries are distances, which only speed up a search.
const hasBlocks = 0x800

// index reads the entries of a file, which are in packs: a pack has 2 entries of 16 bits in 8
// bytes, or 16 entries of 14 bits in 32 bytes, and ends with the block of its first head.
// Small packs come first, up to a border of 32 bytes, then large ones, then small ones for
// the rest.
type index struct {
	r            io.ReaderAt
	at           int64 // of the first pack
	count        int64 // of the entries
	bits         uint  // the logarithm of the size of an lcluster
	first, large int64 // entries in the small packs before the large ones, and in the large ones
	bigPclusters bool

	pack     []entry // the last pack that was read
	packFrom int64   // its first entry
}

const (
	smallEntries, smallBytes = 2, 8
	largeEntries, largeBytes = 16, 32
)

func newIndex(r io.ReaderAt, at, count int64, bits uint, hasLarge, bigPclusters bool) (*index, error) {
	x := &index{r: r, at: at, count: count, bits: bits, bigPclusters: bigPclusters}
	if bits > 14 || hasLarge && bits > 12 {
		return nil, errkind.Errorf(errkind.Unsupported, "compression in logical clusters of %d bytes is not read", int64(1)<<bits)
	}
	x.first = (largeBytes - at%largeBytes) % largeBytes / smallBytes * smallEntries
	if hasLarge && x.first < count {
		x.large = (count - x.first) / largeEntries * largeEntries
	}
	return x, nil
}

func (x *index) entry(number int64) (entry, error) {
	if number < x.packFrom || number >= x.packFrom+int64(len(x.pack)) {
		if err := x.readPack(number); err != nil {
			return entry{}, err
		}
	}
	return x.pack[number-x.packFrom], nil
}

// readPack reads the pack that has the entry number.
func (x *index) readPack(number int64) error {
	at, from := x.at, int64(0)
	entries, size := int64(smallEntries), int64(smallBytes)
	if number >= x.first {
		at, from = at+x.first/smallEntries*smallBytes, x.first
		if number < from+x.large {
			entries, size = largeEntries, largeBytes
		} else {
			at, from = at+x.large/largeEntries*largeBytes, from+x.large
		}
	}
	pack := (number - from) / entries
	b := make([]byte, size)
	if err := readFull(x.r, b, at+pack*size); err != nil {
		return err
	}
	x.pack, x.packFrom = x.decode(b, int(entries)), from+pack*entries
	return nil
}

// decode decodes a pack of n entries. The pclusters of its heads follow each other.
func (x *index) decode(b []byte, n int) []entry {
	le := binary.LittleEndian
	width := uint(len(b)-4) * 8 / uint(n)
	valueBits := max(x.bits, 12)
	next := int64(le.Uint32(b[len(b)-4:]))
	if !x.bigPclusters {
		next++ // there the number is that of the block before
	}
	out := make([]entry, n)
	for i := range out {
		bit := uint(i) * width
		v := le.Uint32(b[bit/8:]) >> (bit % 8)
		value := int64(v & (1<<valueBits - 1))
		e := entry{kind: lclusterType(v >> valueBits & 3)}
		switch {
		case e.kind != inner:
			e.offset, e.block = value, next
			next++ // or more: the next entry has the number of blocks
		case x.bigPclusters && value&hasBlocks != 0:
			e.blocks = value &^ hasBlocks
			next += e.blocks
			if i > 0 { // its head has counted for one block
				next--
			}
		}
		out[i] = e
	}
	return out
}
