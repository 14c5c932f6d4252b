// Package verity builds dm-verity hash trees, and verifies a whole image
// against one.
//
// The kernel checks a block only when a program reads it. Trident must find damage
// before it replaces itself: Verify reads all blocks, on all CPUs and in constant memory.
// It begins at the root, so that it compares each block with a hash that it has already
// checked, and an error names the damaged block, not one above it.
//
// The format is version 1 with a superblock, SHA-256 and blocks of 4096 bytes
// (kernel: Documentation/admin-guide/device-mapper/verity.rst; the superblock:
// cryptsetup's). Within the tree the level next to the root comes first.
package verity

import (
	"context"
	"errors"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	sha "crypto/sha256"
)

const (
	// BlockSize is the size of data and hash blocks.
	BlockSize = 4096

	digestSize = sha.Size
	fanout     = BlockSize / digestSize // digests in a hash block
)

// level is one level of the tree: a row of hash blocks in the hash partition.
type level struct {
	first  int64 // block, counted from the superblock
	blocks int64
}

// levelsOf returns the levels over n data blocks, lowest first. A single data
// block needs none: its hash is the root.
func levelsOf(n int64) []level {
	var out []level
	for n > 1 {
		n = (n + fanout - 1) / fanout
		out = append(out, level{blocks: n})
	}
	at := int64(1)
	for i := len(out) - 1; i >= 0; i-- {
		out[i].first = at
		at += out[i].blocks
	}
	return out
}

// hasher hashes blocks with a salt in front, without allocating.
type hasher struct {
	h    hash.Hash
	salt []byte
	out  [digestSize]byte
}

func newHasher(salt []byte) *hasher { return &hasher{h: sha.New(), salt: salt} }

// sum returns the digest of the salt and block. It is valid until the next call.
func (h *hasher) sum(block []byte) []byte {
	h.h.Reset()
	h.h.Write(h.salt)
	h.h.Write(block)
	return h.h.Sum(h.out[:0])
}

// worker does one unit of work. Each goroutine has its own, so that it can
// keep buffers.
type worker func(unit int64) error

// inParallel runs units 0 to n-1 on all CPUs and returns the error of the lowest unit
// that failed. It begins units in order, and none after a failure or after ctx ends.
func inParallel(ctx context.Context, n int64, newWorker func() worker) error {
	var (
		next   atomic.Int64
		failed atomic.Bool
		mu     sync.Mutex
		first  error
		at     = n
		wg     sync.WaitGroup
	)
	for range min(int64(runtime.GOMAXPROCS(0)), n) {
		wg.Go(func() {
			work := newWorker()
			for !failed.Load() && ctx.Err() == nil {
				unit := next.Add(1) - 1
				if unit >= n {
					return
				}
				if err := work(unit); err != nil {
					failed.Store(true)
					mu.Lock()
					if unit < at {
						at, first = unit, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = context.Cause(ctx)
	}
	return first
}

// readBlocks fills p from offset off. It fails with io.ErrUnexpectedEOF if r ends before.
func readBlocks(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
