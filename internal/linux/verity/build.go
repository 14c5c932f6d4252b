package verity

import (
	"context"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// Build computes the hash tree of the first size bytes of data, writes the superblock
// and the tree to w, and returns the root hash and the number of bytes written. Size
// must be a whole number of blocks, and not zero. Build has one level of the tree in
// memory, at most 1/128 of size.
func Build(ctx context.Context, data io.ReaderAt, size int64, salt []byte, uuid [16]byte, w io.WriterAt) (root [32]byte, hashSize int64, err error) {
	if size <= 0 || size%BlockSize != 0 || size/BlockSize > maxBlocks {
		return root, 0, errkind.Errorf(errkind.Invalid, "build verity tree: %d bytes of data are not a whole number of %d-byte blocks", size, BlockSize)
	}
	if len(salt) > MaxSalt {
		return root, 0, errkind.Errorf(errkind.Invalid, "build verity tree: a salt of %d bytes is longer than %d", len(salt), MaxSalt)
	}
	sb := Superblock{UUID: uuid, DataBlocks: uint64(size / BlockSize), Salt: salt}
	if _, err := w.WriteAt(sb.encode(), 0); err != nil {
		return root, 0, fmt.Errorf("write verity superblock: %w", err)
	}
	blocks := size / BlockSize
	for _, l := range levelsOf(blocks) {
		digests := make([]byte, l.blocks*BlockSize)
		if err := hashBlocks(ctx, data, blocks, salt, digests); err != nil {
			return root, 0, fmt.Errorf("build verity tree: %w", err)
		}
		if _, err := w.WriteAt(digests, l.first*BlockSize); err != nil {
			return root, 0, fmt.Errorf("write verity tree: %w", err)
		}
		data, blocks = memory(digests), l.blocks
	}
	if err := hashBlocks(ctx, data, 1, salt, root[:]); err != nil {
		return root, 0, fmt.Errorf("build verity tree: %w", err)
	}
	return root, sb.HashSize(), nil
}

// hashBlocks writes the digests of the first n blocks of r to digests, in their order.
func hashBlocks(ctx context.Context, r io.ReaderAt, n int64, salt, digests []byte) error {
	units := (n + fanout - 1) / fanout
	return inParallel(ctx, units, func() worker {
		h, buf := newHasher(salt), make([]byte, min(fanout, n)*BlockSize)
		return func(unit int64) error {
			first := unit * fanout
			chunk := buf[:min(fanout, n-first)*BlockSize]
			if err := readBlocks(r, chunk, first*BlockSize); err != nil {
				return fmt.Errorf("read blocks from %d on: %w", first, err)
			}
			for i := int64(0); len(chunk) > 0; i++ {
				copy(digests[(first+i)*digestSize:], h.sum(chunk[:BlockSize]))
				chunk = chunk[BlockSize:]
			}
			return nil
		}
	})
}

// memory is a computed level of the tree, the input of the next level.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
