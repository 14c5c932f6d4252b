package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/trident-project/trident/internal/linux/verity"
)

// keyOf returns the beginning of a hash. Equal keys do not prove equal hashes.
func keyOf(hash [32]byte) uint64 { return binary.LittleEndian.Uint64(hash[:]) }

// compareAll compares the target and the old content with the tree, on all processors. It
// writes blocks that the old content has at the same place, and blocks of zeros.
func (w *blockWork) compareAll(ctx context.Context) error {
	var next atomic.Int64
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, runtime.GOMAXPROCS(0))
	var idle sync.WaitGroup
	for i := range errs {
		idle.Go(func() {
			c := newComparison(w)
			for errs[i] == nil {
				first := next.Add(blocksAtOnce) - blocksAtOnce
				if first >= w.tree.Blocks() {
					return
				}
				if errs[i] = c.compare(ctx, first, min(blocksAtOnce, w.tree.Blocks()-first)); errs[i] != nil {
					cancel()
				}
			}
		})
	}
	idle.Wait()
	return firstError(errs)
}

// firstError returns the first error that is not the end of the other workers.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// comparison has the buffers of one goroutine of compareAll.
type comparison struct {
	*blockWork
	hash     func([]byte) [32]byte
	zeros    [32]byte // the hash of a block of zeros
	has, old []byte   // of the target; of the old content
}

func newComparison(w *blockWork) *comparison {
	c := &comparison{blockWork: w, hash: w.tree.Hash(), has: make([]byte, blockSize), old: make([]byte, blockSize)}
	c.zeros = c.hash(c.old[:verity.BlockSize])
	return c
}

// compare does n blocks from first on. It changes c.has to the new content as far as it has
// that, and writes the changed blocks in runs.
func (c *comparison) compare(ctx context.Context, first, n int64) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	olds := max(0, min(n, int64(len(c.blockWork.old))-first))
	if err := fill(c.target, c.has[:n*verity.BlockSize], first*verity.BlockSize); err != nil {
		return fmt.Errorf("read the device: %w", err)
	}
	if err := fill(c.Old, c.old[:olds*verity.BlockSize], first*verity.BlockSize); err != nil {
		return fmt.Errorf("read the old content: %w", err)
	}
	var kept, reused int64
	changed := make([]bool, n)
	for i := range n {
		want := c.tree.Block(first + i)
		has := c.has[i*verity.BlockSize:][:verity.BlockSize]
		hash := c.hash(has)
		old, oldHash := has, hash
		if i < olds {
			if old = c.old[i*verity.BlockSize:][:verity.BlockSize]; !bytes.Equal(old, has) {
				oldHash = c.hash(old)
			}
			c.blockWork.old[first+i] = keyOf(oldHash)
		}
		switch want {
		case hash:
			kept++
		case c.zeros:
			clear(has)
			kept, changed[i] = kept+1, true
		case oldHash:
			copy(has, old)
			reused, changed[i] = reused+1, true
		default:
			continue
		}
		c.have[first+i] = true
	}
	if err := c.writeRuns(first, changed, c.has); err != nil {
		return err
	}
	c.count(kept, reused, 0)
	return nil
}
