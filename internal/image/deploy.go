package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Target is the device that Deploy writes a partition to, such as a blockdev.Device.
// Several goroutines call its methods. Reads after Sync must read the medium.
type Target interface {
	io.WriterAt
	io.ReaderAt
	Size() int64
	Sync() error
}

// Deployment says how a partition is written.
type Deployment struct {
	// From is where Deploy continues after an earlier run; the zero value is the beginning.
	From Checkpoint
	// Saved, if not nil, is called about every 256 MiB or 5 s with a checkpoint that may
	// be From of the next run: everything before it is on the medium. Not every image has
	// checkpoints (see [Stream.Checkpoint]). An error of Saved ends the deployment.
	Saved func(Checkpoint) error
	// Progress, if not nil, is called a few times a second and at the end with the number
	// of bytes read from the file and written to the partition, both since their beginning.
	Progress func(compressed, written int64)
}

const (
	blockSize        = 1 << 20 // bytes of one write
	blockCount       = 4       // blocks between unpacking and writing
	progressInterval = 250 * time.Millisecond
)

// pace says how often Deploy syncs, and how often it calls Saved. Measured spans of 16 to
// 256 MiB were slower than 64 MiB; sync_file_range was not faster.
type pace struct {
	span  int   // bytes between two syncs; twice as many may be dirty
	saved int64 // bytes between two calls of Saved
	least time.Duration
}

// Deploy writes the partition to t from byte 0, syncs t, reads everything back and
// compares. It returns a proof only if digest and length of the image are right and the
// medium returns the written bytes. After an error the content of t is undefined, except
// the bytes before the last checkpoint of Saved. Deploy also writes zeros, because t may
// have other bytes there, and does not change the bytes of t after the partition.
//
// If the partition is larger than t, Deploy fails before the first write, with upstream's
// FilesystemSizeExceedsBlockDevice. It needs the memory of a [Stream] and about 10 MiB.
func (p Partition) Deploy(ctx context.Context, t Target, d Deployment) (Verified, error) {
	return p.deploy(ctx, t, d, pace{span: 64 << 20, saved: 256 << 20, least: 5 * time.Second})
}

func (p Partition) deploy(ctx context.Context, t Target, d Deployment, often pace) (Verified, error) {
	if p.File.Size > t.Size() {
		err := errkind.Errorf(errkind.NoSpace, "deploy %s: it unpacks to %d bytes, and the device has %d", p.File.Path, p.File.Size, t.Size())
		return Verified{}, errkind.WithName(err, errkind.NameFilesystemSizeExceedsBlockDevice)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := p.OpenAt(ctx, d.From)
	if err != nil {
		return Verified{}, err
	}
	defer s.Close()
	w := &deploy{
		Deployment: d, pace: often, ctx: ctx, cancel: cancel, target: t, stream: s, at: d.From.Uncompressed,
		full: make(chan unpacked, blockCount), free: make(chan []byte, blockCount), spans: make(chan []block),
		seed: maphash.MakeSeed(), last: d.From.Uncompressed, lastAt: time.Now(),
	}
	for range blockCount {
		w.free <- nil // unpack makes the buffer
	}
	var idle sync.WaitGroup
	for _, part := range []func() error{w.unpack, w.write, w.settle} {
		idle.Go(func() { w.ended(part()) })
	}
	idle.Wait()
	if w.err != nil {
		return Verified{}, fmt.Errorf("deploy %s: %w", p.File.Path, w.err)
	}
	w.reportProgress(0)
	return s.Verified()
}

// deploy is one run of Deploy in three goroutines: the first unpacks, the second writes,
// the third syncs and reads back. The first goroutine that fails stops the others.
type deploy struct {
	Deployment
	pace
	ctx    context.Context
	cancel context.CancelFunc
	target Target
	stream *Stream
	seed   maphash.Seed // of the sums of blocks, which are not stored

	full     chan unpacked
	free     chan []byte  // to be filled
	spans    chan []block // written
	at       int64        // the next byte to write
	reported time.Time

	last   int64 // bytes before the last checkpoint given to Saved
	lastAt time.Time

	once sync.Once
	err  error
}

// unpacked has bytes to write, and the function that gives their memory back.
type unpacked struct {
	data    []byte
	release func()
}

// block is the area of one write.
type block struct {
	off int64
	n   int
	sum uint64
}

func (w *deploy) ended(err error) {
	if err != nil {
		w.once.Do(func() { w.err = err })
		w.cancel()
	}
}

func (w *deploy) unpack() error {
	defer close(w.full)
	for {
		f, err := w.next()
		if len(f.data) > 0 {
			select {
			case w.full <- f:
			case <-w.ctx.Done():
				return ended(w.ctx)
			}
		}
		if err != nil {
			if errors.Is(w.stream.err, io.EOF) {
				return nil
			}
			return cmp.Or(w.stream.err, err)
		}
	}
}

// next returns the next bytes: those of the decoder, or a copy in a free buffer.
func (w *deploy) next() (unpacked, error) {
	if data, release, err := w.stream.lend(blockSize); release != nil || err != nil {
		return unpacked{data, release}, err
	}
	var buf []byte
	select {
	case buf = <-w.free:
	case <-w.ctx.Done():
		return unpacked{}, ended(w.ctx)
	}
	if buf == nil {
		buf = make([]byte, min(blockSize, max(1, w.stream.file.Size)))
	}
	n, err := io.ReadFull(w.stream, buf[:cap(buf)])
	return unpacked{buf[:n], func() { w.free <- buf }}, err
}

func (w *deploy) write() error {
	defer close(w.spans)
	var span []block
	var size int
	begun := time.Now()
	for f := range w.full {
		buf := f.data
		if _, err := w.target.WriteAt(buf, w.at); err != nil {
			return fmt.Errorf("write at byte %d: %w", w.at, err)
		}
		span = append(span, block{w.at, len(buf), maphash.Bytes(w.seed, buf)})
		size += len(buf)
		w.at += int64(len(buf))
		f.release()
		w.reportProgress(progressInterval)
		if size >= w.span || time.Since(begun) >= w.least {
			if err := w.settled(span); err != nil {
				return err
			}
			span, size, begun = nil, 0, time.Now()
		}
	}
	return w.settled(span)
}

// settled sends a span to settle, and waits until settle has done the previous one.
func (w *deploy) settled(span []block) error {
	select {
	case w.spans <- span:
		return nil
	case <-w.ctx.Done():
		return ended(w.ctx)
	}
}

func (w *deploy) reportProgress(every time.Duration) {
	if w.Progress != nil && time.Since(w.reported) >= every {
		w.reported = time.Now()
		w.Progress(w.stream.Progress(), w.at)
	}
}

func (w *deploy) settle() error {
	buf := make([]byte, blockSize)
	for span := range w.spans {
		if err := w.target.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		for _, b := range span {
			if err := w.ctx.Err(); err != nil {
				return ended(w.ctx)
			}
			if n, err := w.target.ReadAt(buf[:b.n], b.off); n < b.n {
				return fmt.Errorf("read back at byte %d: %w", b.off+int64(n), err)
			}
			if maphash.Bytes(w.seed, buf[:b.n]) != b.sum {
				err := fmt.Errorf("read back at byte %d: the device returned other bytes than those that were written", b.off)
				return errkind.WithHint(err, "Look into the kernel's log, and replace the device.")
			}
		}
		if len(span) == 0 || w.Saved == nil {
			continue
		}
		end := span[len(span)-1]
		if err := w.save(w.stream.Checkpoint(end.off + int64(end.n))); err != nil {
			return err
		}
	}
	return nil
}

func (w *deploy) save(c Checkpoint) error {
	if c.Uncompressed <= w.last || c.Uncompressed-w.last < w.saved && time.Since(w.lastAt) < w.least {
		return nil
	}
	if err := w.Saved(c); err != nil {
		return fmt.Errorf("record the progress: %w", err)
	}
	w.last, w.lastAt = c.Uncompressed, time.Now()
	return nil
}
