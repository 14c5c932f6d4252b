package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
)

// read takes an upload to its end.
func read(ctx context.Context, u *upload) (got []byte, err error) {
	for {
		c, err := u.next(ctx)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, c...)
	}
}

// sender returns a receive function that yields chunks and then err.
func sender(err error, chunks ...[]byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(chunks) == 0 {
			return nil, err
		}
		c := chunks[0]
		chunks = chunks[1:]
		return c, nil
	}
}

func TestUploads(t *testing.T) {
	half := bytes.Repeat([]byte("a"), 600<<10)
	secondStart := errkind.Errorf(errkind.Invalid, "a second start: only chunks may follow the first message")
	for _, c := range []struct {
		name    string
		size    int64
		receive func() ([]byte, error)
		kind    errkind.Kind // empty: it arrives
		want    string
	}{
		{"whole", 6, sender(io.EOF, []byte("abc"), []byte("def")), "", ""},
		{"larger than a message", 1200 << 10, sender(io.EOF, half, half), "", ""},
		{"ended by the last byte, not by the caller", 3, sender(nil, []byte("abc"), nil), "", ""},
		{"too short", 6, sender(io.EOF, []byte("abc")), errkind.Unavailable,
			"it stopped at 3 of 6 bytes: the caller sent no more"},
		{"too long", 4, sender(io.EOF, []byte("abc"), []byte("def")), errkind.Invalid,
			"more than the 4 bytes that were announced"},
		{"empty chunk", 4, sender(nil, nil), errkind.Invalid,
			"a chunk of 0 bytes; it must have from 1 to 1048576"},
		{"large chunk", 2 << 20, sender(nil, make([]byte, maxChunk+1)), errkind.Invalid,
			"a chunk of 1048577 bytes; it must have from 1 to 1048576"},
		{"second start", 4, sender(secondStart), errkind.Invalid,
			"a second start: only chunks may follow the first message"},
		{"caller gone", 4, sender(status.Error(codes.Canceled, "context canceled"), []byte("a")), errkind.Unavailable,
			"it stopped at 1 of 4 bytes: the caller went away"},
		{"over the limit of gRPC", 9 << 20, sender(status.Error(codes.ResourceExhausted, "message larger than max")), errkind.TooLarge,
			"rpc error: code = ResourceExhausted desc = message larger than max"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(t.Context(), newUpload(t.Context(), c.size, c.receive))
			if c.kind == "" {
				if err != nil || int64(len(got)) != c.size {
					t.Errorf("got %d of %d bytes, %v", len(got), c.size, err)
				}
				return
			}
			if err == nil || err.Error() != c.want || errkind.Of(err) != c.kind {
				t.Errorf("got %v (%s)\nwant %s (%s)", err, errkind.Of(err), c.want, c.kind)
			}
		})
	}
}

func TestASilentUploadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, end := context.WithCancel(t.Context())
		block := func() ([]byte, error) { <-stream.Done(); return nil, stream.Err() }
		begun := time.Now()
		_, err := newUpload(stream, 4, block).next(t.Context())
		const want = "it stopped at 0 of 4 bytes: nothing came for 1m0s"
		if err == nil || err.Error() != want || time.Since(begun) != time.Minute {
			t.Errorf("after %s: %v, want %s", time.Since(begun), err, want)
		}
		end()
		synctest.Wait() // the receiving goroutine has ended, or the bubble complains
	})
}

func TestAnUploadEndsWithItsStreamAndWithItsOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, end := context.WithCancel(t.Context())
		block := func() ([]byte, error) { <-stream.Done(); return nil, stream.Err() }
		u := newUpload(stream, 4, block)
		op, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("cancelled")
		cancel(stop)
		if _, err := u.next(op); !errors.Is(err, stop) {
			t.Errorf("a cancelled operation: %v", err)
		}
		end()
		if _, err := u.next(t.Context()); errkind.Of(err) != errkind.Unavailable {
			t.Errorf("a stream that ended: %v", err)
		}
		synctest.Wait()
	})
}
