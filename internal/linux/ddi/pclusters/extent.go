package pclusters

// extent is a range of a file that one pcluster unpacks to.
type extent struct {
	from, to  int64
	algorithm algorithm
	at, size  int64 // of the pcluster in the image, in bytes
}

// maxExtent bounds the bytes of an extent, and maxPcluster those of a pcluster: the kernel's
// Z_EROFS_PCLUSTER_MAX_DSIZE and Z_EROFS_PCLUSTER_MAX_SIZE.
const (
	maxExtent   = 12 << 20
	maxPcluster = 1 << 20
)

// find returns the extent of the file that has the byte off. It reads a bounded part of the
// index, because no extent is longer than maxExtent.
func (f *File) find(off int64) (extent, error) {
	bits, number := f.index.bits, off>>f.index.bits
	head, err := f.index.entry(number)
	if err != nil {
		return extent{}, err
	}
	from := func(e entry) int64 { return number<<bits + e.offset }
	for head.kind == inner || from(head) > off {
		if number--; number < 0 || off-number<<bits > maxExtent {
			return extent{}, corrupt("the extent of byte %d has no beginning", off)
		}
		if head, err = f.index.entry(number); err != nil {
			return extent{}, err
		}
	}
	if head.offset >= 1<<bits {
		return extent{}, corrupt("an extent begins in lcluster %d behind its end", number)
	}
	x := extent{from: from(head), at: head.block << f.v.blockBits}
	blocks, err := f.blocks(head, number+1)
	if err != nil {
		return extent{}, err
	}
	x.size = blocks << f.v.blockBits
	if x.to, err = f.end(x.from, number+1); err != nil {
		return extent{}, err
	}
	x.algorithm = f.algorithmOf(head.kind)
	length, block := x.to-x.from, int64(1)<<f.v.blockBits
	// A pcluster that is larger than its content would make a read cost more than its result.
	if x.to <= off || length > maxExtent || x.size == 0 || x.size > maxPcluster || x.size >= length+block {
		return extent{}, corrupt("the extent from byte %d to %d in %d blocks is impossible", x.from, x.to, blocks)
	}
	return x, nil
}

// end returns the end of the extent that begins at from: the next head from the entry number
// on, or the end of the file.
func (f *File) end(from, number int64) (int64, error) {
	bits := f.index.bits
	for ; number < f.index.count && number<<bits-from <= maxExtent; number++ {
		e, err := f.index.entry(number)
		if err != nil {
			return 0, err
		}
		if e.kind != inner {
			return min(number<<bits+e.offset, f.size), nil
		}
	}
	return f.size, nil
}

// blocks returns the number of blocks of the pcluster of a head; next is the number of the
// entry behind the head.
func (f *File) blocks(head entry, next int64) (int64, error) {
	kind := 0
	if head.kind != head1 {
		kind = 1
	}
	if !f.bigPclusters[kind] || next >= f.index.count {
		return 1, nil
	}
	e, err := f.index.entry(next)
	if err != nil || e.kind != inner {
		return 1, err
	}
	if e.blocks == 0 {
		return 0, corrupt("a pcluster does not have the number of its blocks")
	}
	return e.blocks, nil
}

func (f *File) algorithmOf(kind lclusterType) algorithm {
	switch kind {
	case head1:
		return f.heads[0]
	case head2:
		return f.heads[1]
	}
	return stored
}

// load unpacks the extent of the byte off into f.lastData.
func (f *File) load(off int64) error {
	x, err := f.find(off)
	if err != nil {
		return err
	}
	f.last = extent{}
	packed, out := resize(f.packedData, x.size), resize(f.lastData, x.to-x.from)
	f.packedData, f.lastData = packed, out
	if err := readFull(f.v.r, packed, x.at); err != nil {
		return err
	}
	if x.algorithm == stored {
		err = f.copyStored(out, packed, x.from)
	} else {
		err = f.unpackers.unpack(x.algorithm, out, packed)
	}
	if err == nil {
		f.last = x
	}
	return err
}

// copyStored copies data that is not compressed. If the file is interlaced, each byte has the
// offset in the block that it has in the file, and the data continues at the block's begin.
func (f *File) copyStored(out, packed []byte, from int64) error {
	if len(out) > len(packed) {
		return corrupt("%d bytes are stored in %d", len(out), len(packed))
	}
	skip := 0
	if f.interlaced {
		skip = int(from & (1<<f.v.blockBits - 1))
	}
	n := copy(out, packed[skip:])
	copy(out[n:], packed[:skip])
	return nil
}

func resize(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}
