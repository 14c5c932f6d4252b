package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
)

// Verify recomputes every hash of the tree in the first hashSize bytes of hash over the
// first dataSize bytes of data, and compares it with the stored hash, up to root. Bytes
// that the tree does not cover must be zero: after the data, after the tree, and after
// the digests in a block. Verify fails with kind Corrupt at the first difference, and
// names its place.
//
// Progress may be nil. It gets numbers of bytes of data. Verify never makes two calls of
// it at the same time, and makes the last, if all is well, with done == total.
func Verify(ctx context.Context, data io.ReaderAt, dataSize int64, hash io.ReaderAt, hashSize int64, root [32]byte, progress func(done, total int64)) error {
	sb, err := ReadSuperblock(hash)
	if err != nil {
		return err
	}
	if err := sb.Fits(dataSize, hashSize); err != nil {
		return err
	}
	v := verifier{sb: sb, hash: hash, levels: levelsOf(int64(sb.DataBlocks)), count: counter(sb.DataSize(), progress)}
	parent, err := v.checkLevels(ctx, root)
	if err != nil {
		return err
	}
	row := rowOf{name: "data block %d", r: data, blocks: int64(sb.DataBlocks)}
	if err := v.checkRow(ctx, row, parent, v.count); err != nil {
		return err
	}
	if err := wantZero(ctx, hash, sb.HashSize(), hashSize); err != nil {
		return fmt.Errorf("after the verity tree: %w", err)
	}
	if err := wantZero(ctx, data, sb.DataSize(), dataSize); err != nil {
		return fmt.Errorf("after the data that the verity tree covers: %w", err)
	}
	return nil
}

// Fits fails, with errkind.Corrupt, if the data or the tree is larger than its partition,
// of dataSize or hashSize bytes.
func (s Superblock) Fits(dataSize, hashSize int64) error {
	switch {
	case s.DataSize() > dataSize:
		return errkind.Errorf(errkind.Corrupt, "the verity superblock is for %d bytes of data, and the partition has %d", s.DataSize(), dataSize)
	case s.HashSize() > hashSize:
		return errkind.Errorf(errkind.Corrupt, "the verity tree has %d bytes, and its partition has %d", s.HashSize(), hashSize)
	}
	return nil
}

type verifier struct {
	sb     Superblock
	hash   io.ReaderAt
	levels []level
	count  func(n int64)
}

// checkLevels verifies the tree from root down, and returns a reader of its lowest level.
func (v *verifier) checkLevels(ctx context.Context, root [32]byte) (parent func(p []byte, block int64) error, err error) {
	parent = parentOf(memory(append(root[:], make([]byte, BlockSize-digestSize)...)), 0)
	for i := len(v.levels) - 1; i >= 0; i-- {
		l := v.levels[i]
		row := rowOf{name: fmt.Sprintf("hash block %%d of level %d", i), r: v.hash, first: l.first, blocks: l.blocks}
		if err := v.checkRow(ctx, row, parent, nil); err != nil {
			return nil, err
		}
		parent = parentOf(v.hash, l.first)
	}
	return parent, nil
}

// rowOf is a row of blocks to check: a level of the tree, or the data.
type rowOf struct {
	name   string // with a verb for the number of the block
	r      io.ReaderAt
	first  int64
	blocks int64
}

// parentOf returns a reader of the blocks of the row above.
func parentOf(r io.ReaderAt, first int64) func(p []byte, block int64) error {
	return func(p []byte, block int64) error { return readBlocks(r, p, (first+block)*BlockSize) }
}

// checkRow compares each block of a row with its digest in the row above. The caller has
// checked that row before.
func (v *verifier) checkRow(ctx context.Context, row rowOf, parent func([]byte, int64) error, count func(int64)) error {
	units := (row.blocks + fanout - 1) / fanout
	return inParallel(ctx, units, func() worker {
		h, buf, want := newHasher(v.sb.Salt), make([]byte, min(fanout, row.blocks)*BlockSize), make([]byte, BlockSize)
		return func(unit int64) error {
			if err := parent(want, unit); err != nil {
				return fmt.Errorf("read verity tree: %w", asCorrupt(err))
			}
			first := unit * fanout
			n := min(fanout, row.blocks-first)
			if err := readBlocks(row.r, buf[:n*BlockSize], (row.first+first)*BlockSize); err != nil {
				return fmt.Errorf("read "+row.name+": %w", first, asCorrupt(err))
			}
			for i := range n {
				if !bytes.Equal(h.sum(buf[i*BlockSize:(i+1)*BlockSize]), want[i*digestSize:(i+1)*digestSize]) {
					return errkind.Errorf(errkind.Corrupt, row.name+" does not match its hash", first+i)
				}
			}
			if i, ok := firstNonzero(want[n*digestSize:]); ok {
				return errkind.Errorf(errkind.Corrupt, "the hash block over "+row.name+" has byte %d after its digests set", first, i)
			}
			if count != nil {
				count(n * BlockSize)
			}
			return nil
		}
	})
}

func asCorrupt(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errkind.With(errkind.Corrupt, err)
	}
	return err
}

// counter returns a function that adds n to the bytes done and calls progress; the calls
// are one at a time.
func counter(total int64, progress func(done, total int64)) func(n int64) {
	if progress == nil {
		return nil
	}
	var mu sync.Mutex
	var done int64
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		progress(done, total)
	}
}

func wantZero(ctx context.Context, r io.ReaderAt, from, to int64) error {
	const chunk = 1 << 20
	return inParallel(ctx, (to-from+chunk-1)/chunk, func() worker {
		buf := make([]byte, chunk)
		return func(unit int64) error {
			at := from + unit*chunk
			p := buf[:min(chunk, to-at)]
			if err := readBlocks(r, p, at); err != nil {
				return fmt.Errorf("read from byte %d on: %w", at, asCorrupt(err))
			}
			if i, ok := firstNonzero(p); ok {
				return errkind.Errorf(errkind.Corrupt, "byte %d is not zero", at+i)
			}
			return nil
		}
	})
}

var zeros [BlockSize]byte

func firstNonzero(p []byte) (int64, bool) {
	for at := 0; at < len(p); at += len(zeros) {
		part := p[at:min(at+len(zeros), len(p))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		for i, c := range part {
			if c != 0 {
				return int64(at + i), true
			}
		}
	}
	return 0, false
}
