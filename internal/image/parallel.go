package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxParallel is the largest frame, in bytes of the partition, that is decoded beside others.
	// [Write] makes such frames.
	maxParallel = frameSize
	// parallelMargin is by how much a frame may be larger than its content, in bytes.
	parallelMargin = 64 << 10
	// parallelFrame is the most memory, in bytes, of a frame and its content.
	parallelFrame = 2*maxParallel + parallelMargin
)

// UseMemory lets each stream decode several frames at the same time, if they fit into so many
// bytes of memory, in addition to [UnpackMemory]. It uses 33 MiB for each processor and 33 MiB
// for the next frame, and at most 165 MiB. By default a stream decodes one frame at a time. Call
// it before the first stream.
func (i *Image) UseMemory(bytes int64) {
	i.atOnce = int(min(int64(runtime.GOMAXPROCS(0)), 4, bytes/parallelFrame-1))
}

// decoder unpacks the bytes of a feed.
type decoder interface {
	io.Reader
	// lend returns at most n of the next bytes without a copy, and a function that gives their
	// memory back, which any goroutine may call. The function is nil if the decoder has no bytes to
	// lend: then the caller must use Read.
	lend(n int) ([]byte, func(), error)
	Close()
}

// sequential is a decoder of one frame at a time.
type sequential struct{ *zstd.Decoder }

func (sequential) lend(int) ([]byte, func(), error) { return nil, nil, nil }

// parallel is a decoder of several frames at a time. A goroutine splits the file into frames;
// each frame is decoded by a goroutine of its own; Read returns them in their order. From a frame
// on that is large, or does not have its length, it decodes one frame at a time.
type parallel struct {
	ctx    context.Context
	in     *bufio.Reader
	window int64
	dec    *zstd.Decoder
	free   chan *frameJob
	order  chan *frameJob
	idle   sync.WaitGroup
	cur    *frameJob
	left   []byte      // the unread rest of cur
	rest   *sequential // nil: not begun
}

// frameJob is a frame that is decoded.
type frameJob struct {
	packed, content []byte
	done            chan struct{} // closed when content or err is there
	err             error
	isRest          bool // packed is the beginning of the bytes for a sequential decoder
	uses            atomic.Int32
}

// release ends a use of the content. After the last one the job is for another frame.
func (p *parallel) release(j *frameJob) {
	if j.uses.Add(-1) == 0 {
		p.free <- j
	}
}

// newParallel returns a decoder of n frames at a time. in must fail when ctx ends.
func newParallel(ctx context.Context, in io.Reader, window int64, n int) (*parallel, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(uint64(max(window, 1<<10))), zstd.WithDecoderMaxMemory(maxParallel), zstd.WithDecoderConcurrency(n))
	if err != nil {
		return nil, err
	}
	p := &parallel{
		ctx: ctx, in: bufio.NewReaderSize(in, 64<<10), window: window, dec: dec,
		free: make(chan *frameJob, n+1), order: make(chan *frameJob, n+2),
	}
	for range n + 1 {
		p.free <- &frameJob{}
	}
	p.idle.Go(p.split)
	return p, nil
}

// split gives frames to decode, and ends with a job that has an error or is the rest.
func (p *parallel) split() {
	for {
		var j *frameJob
		select {
		case j = <-p.free:
		case <-p.ctx.Done():
			p.order <- &frameJob{err: ended(p.ctx), done: closed()}
			return
		}
		j.done, j.packed = make(chan struct{}), j.packed[:0]
		j.uses.Store(1) // of the reader, until it has read all
		size, err := j.read(p.in)
		if err != nil {
			j.isRest = errors.Is(err, errNotParallel)
			j.err = err
			close(j.done)
			p.order <- j
			return
		}
		p.idle.Go(func() {
			defer close(j.done)
			if int64(cap(j.content)) < size {
				j.content = make([]byte, size)
			}
			j.content, j.err = p.dec.DecodeAll(j.packed, j.content[:0])
		})
		p.order <- j // there is room for all jobs
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// errNotParallel says that a frame must be decoded by a sequential decoder.
var errNotParallel = errors.New("the frame is not decoded beside others")

// read reads one frame into j.packed, and returns the size of its content. It passes over
// skippable frames. It fails with errNotParallel for bytes that a sequential decoder has to judge.
func (j *frameJob) read(in *bufio.Reader) (size int64, err error) {
	var h zstd.Header
	for {
		head, err := in.Peek(zstd.HeaderMaxSize)
		if len(head) == 0 {
			return 0, err
		}
		h = zstd.Header{}
		if h.Decode(head) != nil {
			return 0, errNotParallel
		}
		if !h.Skippable {
			break
		}
		if skip := 8 + int64(h.SkippableSize); skip > int64(in.Size()) {
			return 0, errNotParallel
		} else if _, err := in.Discard(int(skip)); err != nil {
			return 0, unexpected(err)
		}
	}
	if !h.HasFCS || h.FrameContentSize == 0 || h.FrameContentSize > maxParallel {
		return 0, errNotParallel
	}
	size = int64(h.FrameContentSize)
	if err := j.append(in, h.HeaderSize); err != nil {
		return 0, err
	}
	for last := false; !last; {
		at := len(j.packed)
		if err := j.append(in, 3); err != nil {
			return 0, err
		}
		b := j.packed[at:]
		v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		n := int(v >> 3)
		last = v&1 == 1
		switch v >> 1 & 3 {
		case 1:
			n = 1
		case 3:
			return 0, errNotParallel
		}
		if int64(len(j.packed)+n) > size+parallelMargin {
			return 0, errNotParallel
		}
		if err := j.append(in, n); err != nil {
			return 0, err
		}
	}
	if h.HasCheckSum {
		err = j.append(in, 4)
	}
	return size, err
}

// append reads n bytes to the end of j.packed.
func (j *frameJob) append(in io.Reader, n int) error {
	at := len(j.packed)
	if cap(j.packed) < at+n {
		grown := make([]byte, at, max(2*cap(j.packed), at+n, 1<<20))
		copy(grown, j.packed)
		j.packed = grown
	}
	j.packed = j.packed[:at+n]
	_, err := io.ReadFull(in, j.packed[at:])
	return unexpected(err)
}

// unexpected returns err, which is io.ErrUnexpectedEOF if the file ended within a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// advance waits for the next frame. Afterwards p.left has bytes, p.rest is begun, or there is an
// error.
func (p *parallel) advance() error {
	for p.rest == nil && len(p.left) == 0 {
		if p.cur != nil {
			if p.cur.err != nil {
				return p.cur.err
			}
			p.release(p.cur)
		}
		p.cur = <-p.order // the last one has an error
		<-p.cur.done
		if p.cur.isRest {
			dec, err := newDecoder(io.MultiReader(bytes.NewReader(p.cur.packed), p.in), p.window)
			if err != nil {
				return err
			}
			p.rest = &sequential{dec}
			return nil
		}
		p.left = p.cur.content
		if p.cur.err != nil {
			p.left = nil
		}
	}
	return nil
}

func (p *parallel) Read(b []byte) (int, error) {
	if err := p.advance(); err != nil {
		return 0, err
	}
	if p.rest != nil {
		return p.rest.Read(b)
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *parallel) lend(n int) ([]byte, func(), error) {
	if err := p.advance(); err != nil || p.rest != nil {
		return nil, nil, err
	}
	n = min(n, len(p.left))
	out, j := p.left[:n], p.cur
	p.left = p.left[n:]
	j.uses.Add(1)
	return out, func() { p.release(j) }, nil
}

// Close ends all goroutines. The context must have ended, or all bytes were read.
func (p *parallel) Close() {
	p.idle.Wait()
	if p.rest != nil {
		p.rest.Close()
	}
	p.dec.Close()
}
