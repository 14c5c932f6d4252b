package blocks

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/verity"
)

const (
	blockSize = verity.BlockSize
	// syncEvery is how many bytes of the network a power cut can lose.
	syncEvery = 4 << 20
)

// provider has blocks of the image.
type provider interface {
	name() string
	// bring gives blocks to w, which judges them. An error of the host is a hostError; any
	// other error means that this provider has no more.
	bring(ctx context.Context, w *work) error
}

// hostError is a failure of this host to keep blocks, after which no provider can help.
type hostError struct{ error }

func (e hostError) Unwrap() error { return e.error }

// work is the image that is being made. It takes blocks, and keeps those that are in the tree.
type work struct {
	file    *os.File
	isFresh bool  // the file has no bytes of an earlier fetch
	data    int64 // where the blocks begin in the file
	tree    *verity.Tree
	hash    func([]byte) [32]byte
	have    []bool
	missing int64 // blocks

	unsynced int64
	report   func()

	// The missing blocks by their hash: the first one, and for each the next with the same.
	first map[uint64]int32
	next  []int32
}

func newWork(file *os.File, isFresh bool, image *ddi.Image, tree *verity.Tree) *work {
	data, _ := image.Data()
	return &work{
		file: file, isFresh: isFresh, data: data, tree: tree, hash: tree.Hash(),
		have: make([]bool, tree.Blocks()), missing: tree.Blocks(), report: func() {},
	}
}

// put writes block i if the tree has its hash, and reports whether it has.
func (w *work) put(i int64, block []byte) (bool, error) {
	if w.hash(block) != w.tree.Block(i) {
		return false, nil
	}
	if w.have[i] {
		return true, nil
	}
	return true, w.write(i, block)
}

// write writes block i, which the tree has, to the file.
func (w *work) write(i int64, block []byte) error {
	if _, err := w.file.WriteAt(block, w.data+i*blockSize); err != nil {
		return hostError{spaceError(fmt.Errorf("write part file: %w", err))}
	}
	w.found(i)
	return nil
}

func (w *work) found(i int64) {
	w.have[i] = true
	w.missing--
	if w.missing%256 == 0 {
		w.report()
	}
}

// received says that n bytes came over the network, and writes them to disk from time to time.
func (w *work) received(n int64) error {
	if w.unsynced += n; w.unsynced < syncEvery {
		return nil
	}
	w.unsynced = 0
	if err := w.file.Sync(); err != nil {
		return hostError{spaceError(fmt.Errorf("sync part file: %w", err))}
	}
	return nil
}

// spaceError gives err the kind NoSpace if the disk is full.
func spaceError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errkind.WithHint(errkind.With(errkind.NoSpace, err), "Make room on the disk, and begin again.")
	}
	return err
}

// clear writes zeros to each byte of the file that is neither in the outline of the image nor
// in a block. An image has nothing else there, but the file may have bytes of another image.
func (w *work) clear(image *ddi.Image) error {
	if w.isFresh {
		return nil
	}
	size := image.Table().Size
	kept := []fetch.Span{{Off: 0, Len: gpt.OverheadFront}, {Off: size - gpt.OverheadBack, Len: gpt.OverheadBack}, {Off: size}}
	hash, _ := image.Hash()
	for _, p := range image.Table().Partitions {
		switch p.Offset() {
		case w.data:
			kept = append(kept, fetch.Span{Off: w.data, Len: w.tree.Blocks() * blockSize})
		case hash:
			kept = append(kept, fetch.Span{Off: hash, Len: w.tree.Size()})
		default:
			kept = append(kept, fetch.Span{Off: p.Offset(), Len: p.Size()})
		}
	}
	slices.SortFunc(kept, func(a, b fetch.Span) int { return cmp.Compare(a.Off, b.Off) })
	zeros := make([]byte, 256*blockSize)
	at := int64(0)
	for _, k := range kept {
		for at < k.Off {
			n := min(int64(len(zeros)), k.Off-at)
			if _, err := w.file.WriteAt(zeros[:n], at); err != nil {
				return spaceError(fmt.Errorf("write part file: %w", err))
			}
			at += n
		}
		at = max(at, k.Off+k.Len)
	}
	return nil
}

func keyOf(hash [32]byte) uint64 { return binary.LittleEndian.Uint64(hash[:]) }

// index prepares place.
func (w *work) index() {
	if w.first != nil {
		return
	}
	w.first, w.next = make(map[uint64]int32, w.missing), make([]int32, len(w.have))
	for i := len(w.have) - 1; i >= 0; i-- {
		if w.have[i] {
			continue
		}
		key := keyOf(w.tree.Block(int64(i)))
		w.next[i] = -1
		if n, ok := w.first[key]; ok {
			w.next[i] = n
		}
		w.first[key] = int32(i)
	}
}

// place writes block to each missing place whose hash it has.
func (w *work) place(block []byte) error {
	w.index()
	h := w.hash(block)
	i, ok := w.first[keyOf(h)]
	for ; ok && i >= 0; i = w.next[i] {
		if w.have[i] || w.tree.Block(int64(i)) != h {
			continue
		}
		if err := w.write(int64(i), block); err != nil {
			return err
		}
	}
	return nil
}

// attempt is what an interrupted fetch has left in the file, and the blocks of zeros.
type attempt struct{}

func (attempt) name() string { return "an interrupted fetch, or are zero" }

func (attempt) bring(ctx context.Context, w *work) error {
	zeros := make([]byte, blockSize)
	zeroHash := w.hash(zeros)
	buf := make([]byte, 256*blockSize)
	for first := int64(0); first < w.tree.Blocks(); first += 256 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		chunk := buf[:min(256, w.tree.Blocks()-first)*blockSize]
		if !w.isFresh {
			if _, err := w.file.ReadAt(chunk, w.data+first*blockSize); err != nil {
				return hostError{fmt.Errorf("read part file: %w", err)}
			}
		}
		for i := first; len(chunk) > 0; i, chunk = i+1, chunk[blockSize:] {
			block, want := chunk[:blockSize], w.tree.Block(i)
			isZero := w.isFresh || bytes.Equal(block, zeros)
			switch {
			case isZero && want == zeroHash, !isZero && w.hash(block) == want:
				w.found(i)
			case want == zeroHash:
				if err := w.write(i, zeros); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
