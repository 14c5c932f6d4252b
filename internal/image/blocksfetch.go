package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/verity"
)

const (
	// batchSize is how many bytes of frames are requested at a time, and so the most that wait in
	// memory for the rest of their frames.
	batchSize = 8 << 20
	// syncEvery is after how many bytes of the file the target is synced. A power cut can lose
	// twice as many.
	syncEvery = 4 << 20
)

// fetch fetches the frames that have missing blocks, and writes these blocks.
func (w *blockWork) fetch(ctx context.Context) error {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxIndexed), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("set up zstd: %w", err)
	}
	defer dec.Close()
	f := &frameFetch{blockWork: w, dec: dec, hash: w.tree.Hash(), parts: map[int64][]byte{}}
	for rest := w.missingFrames(); len(rest) > 0; rest = rest[len(f.batch):] {
		f.batch = takeBatch(rest)
		if err := w.part.image.src.ReadSpans(ctx, f.spans(), f.got); err != nil {
			if ctx.Err() != nil {
				return ended(ctx)
			}
			return err
		}
		if err := f.save(len(f.batch) == len(rest)); err != nil {
			return err
		}
	}
	if n := w.missing(); n > 0 {
		return errkind.Errorf(errkind.Corrupt, "%d blocks are in no frame of the file", n)
	}
	return nil
}

// missingFrames returns the frames that have missing blocks.
func (w *blockWork) missingFrames() []placedFrame {
	var out []placedFrame
	for _, f := range w.frames {
		if slices.Contains(w.have[f.at/verity.BlockSize:(f.at+f.unpacked)/verity.BlockSize], false) {
			out = append(out, f)
		}
	}
	return out
}

// takeBatch returns the first frames of a list, of together about batchSize bytes, at least one.
func takeBatch(frames []placedFrame) []placedFrame {
	size := int64(0)
	for i, f := range frames {
		if size += f.packed; i > 0 && size > batchSize {
			return frames[:i]
		}
	}
	return frames
}

// frameFetch takes the bytes of frames as they come.
type frameFetch struct {
	*blockWork
	dec      *zstd.Decoder
	hash     func([]byte) [32]byte
	batch    []placedFrame    // in the order of the file
	parts    map[int64][]byte // beginnings of frames, by the offsets of the frames
	content  []byte           // of the last frame
	unsynced int64
}

// spans returns the places of the batch in the image. Neighbours are one span.
func (f *frameFetch) spans() []fetch.Span {
	var out []fetch.Span
	for _, b := range f.batch {
		off := f.part.off + b.off
		if n := len(out); n > 0 && out[n-1].Off+out[n-1].Len == off {
			out[n-1].Len += b.packed
			continue
		}
		out = append(out, fetch.Span{Off: off, Len: b.packed})
	}
	return out
}

// got takes bytes of the image from byte off on: those of a span come in their order.
func (f *frameFetch) got(off int64, p []byte) error {
	off -= f.part.off
	f.counts.Bytes += int64(len(p))
	f.unsynced += int64(len(p))
	for len(p) > 0 {
		i, ok := slices.BinarySearchFunc(f.batch, off, func(b placedFrame, off int64) int {
			switch {
			case b.off+b.packed <= off:
				return -1
			case b.off > off:
				return 1
			}
			return 0
		})
		if !ok || int64(len(f.parts[f.batch[i].off])) != off-f.batch[i].off {
			return errkind.Errorf(errkind.Internal, "byte %d of the file came out of turn", off)
		}
		b := f.batch[i]
		part := f.parts[b.off]
		n := min(b.packed-int64(len(part)), int64(len(p)))
		if int64(len(part))+n < b.packed {
			f.parts[b.off] = append(part, p[:n]...)
			return nil
		}
		if part != nil {
			part = append(part, p[:n]...)
		} else {
			part = p[:n]
		}
		if err := f.put(b, part); err != nil {
			return err
		}
		delete(f.parts, b.off)
		off, p = off+n, p[n:]
	}
	return nil
}

// put writes the missing blocks of a frame.
func (f *frameFetch) put(b placedFrame, packed []byte) error {
	var err error
	if f.content, err = f.dec.DecodeAll(packed, f.content[:0]); err != nil {
		return f.wrong(corrupt("the frame at byte %d cannot be unpacked: %w", b.off, err))
	}
	if int64(len(f.content)) != b.unpacked {
		return f.wrong(corrupt("the frame at byte %d unpacks to %d bytes, and the index says %d", b.off, len(f.content), b.unpacked))
	}
	first, n := b.at/verity.BlockSize, b.unpacked/verity.BlockSize
	changed, fetched := make([]bool, n), int64(0)
	for i := range n {
		if f.have[first+i] {
			continue
		}
		if f.hash(f.content[i*verity.BlockSize:][:verity.BlockSize]) != f.tree.Block(first+i) {
			return f.wrong(corrupt("block %d does not match the hash tree", first+i))
		}
		changed[i] = true
		fetched++
	}
	if err := f.writeRuns(first, changed, f.content); err != nil {
		return err
	}
	for i, is := range changed {
		if is {
			f.have[first+int64(i)] = true
		}
	}
	f.count(0, 0, fetched)
	return nil
}

// wrong adds what a person can do about a wrong file.
func (f *frameFetch) wrong(err error) error {
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errkind.With(errkind.Corrupt, err)
	}
	return errkind.WithHint(err, "The image at the source is damaged, or a proxy alters it. Try again later, or from another server.")
}

// save syncs what came, if that is much or the last.
func (f *frameFetch) save(last bool) error {
	if f.unsynced < syncEvery || last {
		return nil // Update syncs at the end
	}
	f.unsynced = 0
	if err := f.target.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if f.Saved == nil {
		return nil
	}
	if err := f.Saved(); err != nil {
		return fmt.Errorf("record the progress: %w", err)
	}
	return nil
}
