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
	chunkCount = 12        // chunks that are read ahead
)

// feed reads compressed bytes for the decoder. One goroutine reads ahead, a second one
// hashes the bytes and finds checkpoints, so that the network, the hash and the decoder
// do not wait for each other. The decoder gets only hashed bytes.
type feed struct {
	ctx    context.Context
	cancel context.CancelFunc
	src    io.ReadCloser
	file   File
	idle   sync.WaitGroup // both goroutines
	raw    chan chunk     // read
	ready  chan chunk     // read and hashed
	free   chan []byte
	cur    chunk  // the chunk that the decoder reads
	left   []byte // the unread rest of cur
	frames frames
	state  digest

	mu     sync.Mutex
	read   int64  // compressed bytes that are hashed
	sum    string // of the whole file, at the end
	marks  []Checkpoint
	best   Checkpoint
	failed error // of the source
}

// digest is the state of the hash. Only the second goroutine uses it.
type digest struct {
	hash.Hash
	chunk []byte // the rest of the present chunk, not hashed yet
	at    int64  // offset of chunk in the file
	noted int64  // uncompressed bytes at the last mark
}

type chunk struct {
	data []byte
	err  error // after data
}

// newFeed returns a feed that reads body from checkpoint c, and closes it. body must end
// when ctx ends; sum is the state of the hash at c.
func newFeed(ctx context.Context, cancel context.CancelFunc, file File, body io.ReadCloser, sum hash.Hash, c Checkpoint) *feed {
	f := &feed{
		ctx: ctx, cancel: cancel, src: body, file: file, read: c.Compressed, best: c,
		raw: make(chan chunk, chunkCount+1), ready: make(chan chunk, chunkCount+1), free: make(chan []byte, chunkCount),
		state: digest{Hash: sum, noted: c.Uncompressed},
	}
	f.frames = frames{read: c.Compressed, out: c.Uncompressed, ended: f.ended}
	for range chunkCount {
		f.free <- nil // readAhead makes the buffer
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

// ended records a checkpoint at the end of a frame, if the last one is far enough away.
func (f *feed) ended(compressed, uncompressed int64) {
	if gap := max(4<<20, f.file.Size/256); uncompressed-f.state.noted < gap || uncompressed > f.file.Size {
		return
	}
	k := compressed - f.state.at
	f.state.Write(f.state.chunk[:k])
	f.state.chunk, f.state.at = f.state.chunk[k:], compressed
	state, err := f.state.Hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return // record no checkpoint
	}
	f.state.noted = uncompressed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks = append(f.marks, Checkpoint{f.file.SHA384, compressed, uncompressed, state})
}

// Read returns hashed bytes. Only the decoder calls it.
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

// total returns the number of hashed bytes, their hash if the source has ended, and the
// error of the source.
func (f *feed) total() (read int64, sum string, failed error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read, f.sum, f.failed
}

// checkpoint returns the last checkpoint at or before byte durable of the partition. Do not
// call it with a smaller value afterwards.
func (f *feed) checkpoint(durable int64) Checkpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.marks) > 0 && f.marks[0].Uncompressed <= durable {
		f.best, f.marks = f.marks[0], f.marks[1:]
	}
	return f.best
}

// close stops both goroutines, waits for their end, and closes the source.
func (f *feed) close() error {
	f.cancel()
	f.idle.Wait()
	return f.src.Close()
}

// ended returns the error for work that the end of ctx has stopped.
func ended(ctx context.Context) error {
	kind := errkind.Cancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = errkind.Timeout
	}
	return errkind.With(kind, context.Cause(ctx))
}
