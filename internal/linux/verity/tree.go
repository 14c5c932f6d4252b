package verity

import (
	"context"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// Tree has the hash of each data block. Several goroutines may use it.
type Tree struct {
	sb     Superblock
	lowest []byte // the hashes of the data blocks, in their order
}

// OpenTree reads the superblock and the tree in the first hashSize bytes of hash, and verifies
// the tree from root down: afterwards each hash of a data block is as trustworthy as root. It
// reads no data. It keeps 32 bytes for each of the blocks, at most hashSize.
//
// It fails with kind Corrupt if a block of the tree does not match its hash, or a byte that
// the tree does not cover is not zero: in a block after its hashes, and after the tree.
func OpenTree(ctx context.Context, hash io.ReaderAt, hashSize int64, root [32]byte) (*Tree, error) {
	sb, err := ReadSuperblock(hash)
	if err != nil {
		return nil, err
	}
	if sb.HashSize() > hashSize {
		return nil, errkind.Errorf(errkind.Corrupt, "the verity tree has %d bytes, and its partition has %d", sb.HashSize(), hashSize)
	}
	v := verifier{sb: sb, hash: hash, levels: levelsOf(int64(sb.DataBlocks))}
	parent, err := v.checkLevels(ctx, root)
	if err != nil {
		return nil, err
	}
	if err := wantZero(ctx, hash, sb.HashSize(), hashSize); err != nil {
		return nil, fmt.Errorf("after the verity tree: %w", err)
	}
	t := &Tree{sb: sb, lowest: make([]byte, (int64(sb.DataBlocks)+fanout-1)/fanout*BlockSize)}
	for at := int64(0); at < int64(len(t.lowest)); at += BlockSize {
		if err := parent(t.lowest[at:at+BlockSize], at/BlockSize); err != nil {
			return nil, fmt.Errorf("read verity tree: %w", asCorrupt(err))
		}
	}
	return t, nil
}

// Blocks returns the number of data blocks.
func (t *Tree) Blocks() int64 { return int64(t.sb.DataBlocks) }

// Size returns the size of the superblock and the tree in bytes.
func (t *Tree) Size() int64 { return t.sb.HashSize() }

// Salt returns the salt of the hashes.
func (t *Tree) Salt() []byte { return t.sb.Salt }

// Block returns the hash of data block i.
func (t *Tree) Block(i int64) [32]byte {
	return [digestSize]byte(t.lowest[i*digestSize : (i+1)*digestSize])
}

// Hash returns a function that hashes a block as the tree does. Each goroutine needs its own.
func (t *Tree) Hash() func(block []byte) [32]byte {
	h := newHasher(t.sb.Salt)
	return func(block []byte) [32]byte { return [digestSize]byte(h.sum(block)) }
}
