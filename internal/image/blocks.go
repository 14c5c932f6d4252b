package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/verity"
)

// blocksAtOnce is how many blocks Update reads at a time: 1 MiB.
const blocksAtOnce = blockSize / verity.BlockSize

// Blocks writes a partition block by block: each block comes from what the target has, from
// another device, or from the file, of which it fetches only the frames with missing blocks.
//
// It has no proof of the file, because it does not read all of it. The hash tree judges each
// block instead, before Blocks writes it.
type Blocks struct {
	part   Partition
	tree   *verity.Tree
	frames []placedFrame
}

// BlockCounts says where the blocks of a partition came from.
type BlockCounts struct {
	All     int64 // blocks of the partition
	Kept    int64 // were on the target, or are zero
	Reused  int64 // came from the old content
	Fetched int64 // came from the file
	Bytes   int64 // of the file that were read for them, without the index
}

// UpdateMemory returns the most memory, in bytes, that [Blocks] and the hash tree need for a
// partition of size bytes: for each block 32 bytes of the tree, 44 of the index of the frames,
// and at most 64 to find the block elsewhere; and 24 MiB.
func UpdateMemory(size int64) int64 { return size/verity.BlockSize*140 + 24<<20 }

// OpenBlocks reads the index of the frames. tree is the verified hash tree of the partition. It
// fails with kind Unsupported if the file cannot be fetched in parts; the error names the
// reason, and Deploy can still write the partition.
func (p Partition) OpenBlocks(ctx context.Context, tree *verity.Tree) (*Blocks, error) {
	if covered := tree.Blocks() * verity.BlockSize; covered != p.File.Size {
		return nil, errkind.Errorf(errkind.Unsupported, "%s has %d bytes, and its hash tree is for %d", p.File.Path, p.File.Size, covered)
	}
	frames, err := p.index(ctx)
	if err != nil {
		return nil, err
	}
	return &Blocks{p, tree, frames}, nil
}

// BlockUpdate says how Update writes a partition.
type BlockUpdate struct {
	// Old has content that is probably similar, such as the other slot, of OldSize bytes. Nobody
	// needs to trust it.
	Old     io.ReaderAt
	OldSize int64
	// Saved, if not nil, is called about every 8 MiB of the file, after they are on the medium.
	// An error of Saved ends the update.
	Saved func() error
	// Progress, if not nil, is called now and then with the number of bytes of the partition that
	// are right. Update never makes two calls of it at the same time.
	Progress func(done int64)
}

// Update makes the content of t that of the partition, and syncs t. It writes a block only if
// its hash is in the tree at that place, and does not write a block that t has already. So it
// continues an earlier Update that was interrupted, without a record of it, and fetches nothing
// again that reached the medium.
//
// Afterwards the caller must compare all of t with the tree, from the medium: only that
// comparison is a proof. A block of the file that does not match fails with kind Corrupt.
func (b *Blocks) Update(ctx context.Context, t Target, u BlockUpdate) (BlockCounts, error) {
	n := b.tree.Blocks()
	w := &blockWork{Blocks: b, BlockUpdate: u, target: t, have: make([]bool, n), old: make([]uint64, min(n, u.OldSize/verity.BlockSize))}
	w.counts.All = n
	if b.part.File.Size > t.Size() {
		err := errkind.Errorf(errkind.NoSpace, "update %s: it has %d bytes, and the device has %d", b.part.File.Path, b.part.File.Size, t.Size())
		return w.counts, errkind.WithName(err, errkind.NameFilesystemSizeExceedsBlockDevice)
	}
	for _, part := range []func(context.Context) error{w.compareAll, w.findMoved, w.fetch} {
		if err := part(ctx); err != nil {
			return w.counts, fmt.Errorf("update %s: %w", b.part.File.Path, err)
		}
	}
	if err := t.Sync(); err != nil {
		return w.counts, fmt.Errorf("update %s: sync: %w", b.part.File.Path, err)
	}
	return w.counts, nil
}

// blockWork is one run of Update.
type blockWork struct {
	*Blocks
	BlockUpdate
	target Target
	have   []bool   // blocks that are right on the target; each has one writer at a time
	old    []uint64 // the beginnings of the hashes of the old content

	mu     sync.Mutex // guards counts, and the calls of Progress
	counts BlockCounts
}

// writeRuns writes the changed blocks of content, which begins at block first.
func (w *blockWork) writeRuns(first int64, changed []bool, content []byte) error {
	for i := 0; i < len(changed); i++ {
		from := i
		for i < len(changed) && changed[i] {
			i++
		}
		if i == from {
			continue
		}
		at := first + int64(from)
		if _, err := w.target.WriteAt(content[from*verity.BlockSize:i*verity.BlockSize], at*verity.BlockSize); err != nil {
			return fmt.Errorf("write at byte %d: %w", at*verity.BlockSize, err)
		}
	}
	return nil
}

// fill fills p from offset off.
func fill(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("at byte %d: %w", off+int64(n), err)
}

// count adds blocks that are right now.
func (w *blockWork) count(kept, reused, fetched int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.counts
	c.Kept, c.Reused, c.Fetched = c.Kept+kept, c.Reused+reused, c.Fetched+fetched
	if w.Progress != nil && kept+reused+fetched > 0 {
		w.Progress((c.Kept + c.Reused + c.Fetched) * verity.BlockSize)
	}
}

func (w *blockWork) missing() int64 {
	return w.counts.All - w.counts.Kept - w.counts.Reused - w.counts.Fetched
}

// findMoved writes missing blocks that the old content has at other places.
func (w *blockWork) findMoved(ctx context.Context) error {
	if w.missing() == 0 || len(w.old) == 0 {
		return nil
	}
	first, next := w.indexMissing()
	hash, block := w.tree.Hash(), make([]byte, verity.BlockSize)
	for k, key := range w.old {
		i, wanted := first[key]
		if !wanted {
			continue
		}
		if ctx.Err() != nil {
			return ended(ctx)
		}
		if err := fill(w.Old, block, int64(k)*verity.BlockSize); err != nil {
			return fmt.Errorf("read the old content: %w", err)
		}
		h := hash(block)
		for ; i >= 0; i = next[i] {
			if w.have[i] || w.tree.Block(i) != h {
				continue
			}
			if err := w.writeRuns(i, []bool{true}, block); err != nil {
				return err
			}
			w.have[i] = true
			w.count(0, 1, 0)
		}
		delete(first, key)
	}
	return nil
}

// indexMissing returns the first missing block with each key, and for each block the next
// missing one with the same key; -1 is the end.
func (w *blockWork) indexMissing() (first map[uint64]int64, next []int64) {
	first, next = make(map[uint64]int64, w.missing()), make([]int64, len(w.have))
	for i := int64(len(w.have)) - 1; i >= 0; i-- {
		if w.have[i] {
			continue
		}
		key := keyOf(w.tree.Block(i))
		next[i] = -1
		if n, ok := first[key]; ok {
			next[i] = n
		}
		first[key] = i
	}
	return first, next
}
