package image

import (
	"bufio"
	"context"
	"io"
	"runtime"
	"sync"

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
