package api

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

const (
	maxChunk = 1 << 20
	// chunkTime is the longest time between two chunks.
	chunkTime = time.Minute
)

// upload passes the chunks of a stream to an operation. Its own goroutine receives them,
// because a receive cannot be interrupted and the operation must not wait for a stalled
// client.
type upload struct {
	size, got int64
	idle      time.Duration
	chunks    chan chunk
	gone      context.Context // of the stream
}

type chunk struct {
	data []byte
	err  error
}

// newUpload starts to receive. It stops when the stream ends, which is when the method
// returns.
func newUpload(stream context.Context, size int64, receive func() ([]byte, error)) *upload {
	u := &upload{size: size, idle: chunkTime, chunks: make(chan chunk), gone: stream}
	go func() {
		for {
			var c chunk
			c.data, c.err = receive()
			select {
			case u.chunks <- c:
			case <-stream.Done():
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	return u
}

// next returns the next chunk, or io.EOF after the announced number of bytes.
func (u *upload) next(ctx context.Context) ([]byte, error) {
	if u.got == u.size {
		return nil, io.EOF
	}
	timer := time.NewTimer(u.idle)
	defer timer.Stop()
	select {
	case c := <-u.chunks:
		return u.check(c)
	case <-timer.C:
		return nil, u.stopped("nothing came for " + u.idle.String())
	case <-u.gone.Done():
		return nil, u.stopped("the caller went away")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (u *upload) check(c chunk) ([]byte, error) {
	n := int64(len(c.data))
	switch {
	case errors.Is(c.err, io.EOF):
		return nil, u.stopped("the caller sent no more")
	case c.err != nil:
		return nil, u.refused(c.err)
	case n == 0 || n > maxChunk:
		return nil, errkind.Errorf(errkind.Invalid, "a chunk of %d bytes; it must have from 1 to %d", n, maxChunk)
	case n > u.size-u.got:
		return nil, errkind.Errorf(errkind.Invalid, "more than the %d bytes that were announced", u.size)
	}
	u.got += n
	return c.data, nil
}

// refused returns err as Invalid or TooLarge if the caller sent a bad request, else the
// error of a caller that has disconnected.
func (u *upload) refused(err error) error {
	if kind, _, _ := grpckind.FromError(err); kind == errkind.Invalid || kind == errkind.TooLarge {
		return errkind.With(kind, err)
	}
	return u.stopped("the caller went away")
}

func (u *upload) stopped(why string) error {
	return errkind.WithHint(
		errkind.Errorf(errkind.Unavailable, "it stopped at %d of %d bytes: %s", u.got, u.size, why),
		"upload it again")
}
