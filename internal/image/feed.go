package image

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	chunkSize  = 256 << 10 // bytes of one read of the source
	chunkCount = 12        // that are read ahead
)

// feed brings compressed bytes to the decoder. One goroutine reads ahead, a
// second one counts and digests, so that neither the network nor the decoder
// waits for the other, or for the digest. What the decoder gets has been digested.
type feed struct {
	ctx    context.Context
	cancel context.CancelFunc
	src    io.ReadCloser
	file   File
	idle   sync.WaitGroup // both goroutines
	raw    chan chunk     // read
	ready  chan chunk     // and digested
	free   chan []byte
	cur    chunk  // what the decoder reads
	left   []byte // of cur
	frames frames
	state  digest

	mu     sync.Mutex
	read   int64  // compressed bytes that were digested
	sum    string // of them all, at the end
	marks  []Checkpoint
	best   Checkpoint
	failed error // of the source
}

// digest is of the second goroutine only.
type digest struct {
	hash.Hash
	chunk []byte // of what is being counted, not in it yet
	at    int64  // where chunk begins
	noted int64  // uncompressed bytes at the last mark
}

type chunk struct {
	data []byte
	err  error // behind data
}

// newFeed takes over body, which ends when ctx does, and sum, which is that of
// what lies before c.
func newFeed(ctx context.Context, cancel context.CancelFunc, file File, body io.ReadCloser, sum hash.Hash, c Checkpoint) *feed {
	f := &feed{
		ctx: ctx, cancel: cancel, src: body, file: file, read: c.Compressed, best: c,
		raw: make(chan chunk, chunkCount+1), ready: make(chan chunk, chunkCount+1), free: make(chan []byte, chunkCount),
		state: digest{Hash: sum, noted: c.Uncompressed},
	}
	f.frames = frames{read: c.Compressed, out: c.Uncompressed, ended: f.ended}
	for range chunkCount {
		f.free <- nil // is made when it is needed
	}
	f.idle.Go(f.readAhead)
	f.idle.Go(f.digest)
	return f
}

func (f *feed) readAhead() {
	defer close(f.raw)
	for {
		var buf []byte
		select {
		case buf = <-f.free:
		case <-f.ctx.Done():
			f.raw <- chunk{err: ended(f.ctx)}
			return
		}
		if buf == nil {
			buf = make([]byte, min(chunkSize, max(f.file.Compressed, 512)))
		}
		n, err := f.src.Read(buf[:cap(buf)])
		f.raw <- chunk{buf[:n], err} // there is room for all buffers and an error
		if err != nil {
			return
		}
	}
}

func (f *feed) digest() {
	for c := range f.raw {
		f.state.chunk, f.state.at = c.data, f.read // only this goroutine writes it
		_, _ = f.frames.Write(c.data)
		f.state.Write(f.state.chunk)
		f.state.chunk = nil
		f.mu.Lock()
		f.read += int64(len(c.data))
		if c.err != nil && !errors.Is(c.err, io.EOF) {
			f.failed = c.err
		}
		if c.err != nil {
			f.sum = fmt.Sprintf("%x", f.state.Sum(nil))
		}
		f.mu.Unlock()
		f.ready <- c
	}
}

// ended is called behind a frame.
func (f *feed) ended(compressed, uncompressed int64) {
	if gap := max(4<<20, f.file.Size/256); uncompressed-f.state.noted < gap || uncompressed > f.file.Size {
		return
	}
	k := compressed - f.state.at
	f.state.Write(f.state.chunk[:k])
	f.state.chunk, f.state.at = f.state.chunk[k:], compressed
	state, err := f.state.Hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return // no mark then
	}
	f.state.noted = uncompressed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks = append(f.marks, Checkpoint{f.file.SHA384, compressed, uncompressed, state})
}

// Read is the decoder's.
func (f *feed) Read(p []byte) (int, error) {
	for len(f.left) == 0 {
		if f.cur.err != nil {
			return 0, f.cur.err
		}
		if f.cur.data != nil {
			f.free <- f.cur.data
		}
		f.cur = <-f.ready // the last has an error
		f.left = f.cur.data
	}
	n := copy(p, f.left)
	f.left = f.left[n:]
	return n, nil
}

// total returns how many bytes were digested; their sum is known at the end.
func (f *feed) total() (read int64, sum string, failed error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read, f.sum, f.failed
}

// checkpoint returns the last mark at or before a byte of the partition, and
// forgets those before it.
func (f *feed) checkpoint(durable int64) Checkpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.marks) > 0 && f.marks[0].Uncompressed <= durable {
		f.best, f.marks = f.marks[0], f.marks[1:]
	}
	return f.best
}

// close returns when nobody uses the source any more.
func (f *feed) close() error {
	f.cancel()
	f.idle.Wait()
	return f.src.Close()
}

// ended is the error of what ctx has stopped.
func ended(ctx context.Context) error {
	kind := errkind.Cancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = errkind.Timeout
	}
	return errkind.With(kind, context.Cause(ctx))
}
