package command

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
)

type stdinKey struct{}

// Stdin returns standard input. The commands on several hosts all read the same bytes.
func Stdin(ctx context.Context) io.Reader {
	if shared, ok := ctx.Value(stdinKey{}).(*sharedInput); ok {
		return &sharedReader{shared: shared}
	}
	return os.Stdin
}

// maxStdin bounds what commands on several hosts read from standard input, in bytes. It is
// more than any command accepts.
const maxStdin = 4 << 20

// sharedInput is standard input that several readers read from the beginning.
type sharedInput struct {
	source io.Reader
	once   sync.Once
	text   []byte
	err    error
}

// sharedReader is one of these readers. The first Read of any reads all input.
type sharedReader struct {
	shared *sharedInput
	rest   *bytes.Reader
}

func (r *sharedReader) Read(p []byte) (int, error) {
	s := r.shared
	s.once.Do(func() { s.text, s.err = io.ReadAll(io.LimitReader(s.source, maxStdin)) })
	if s.err != nil {
		return 0, s.err
	}
	if r.rest == nil {
		r.rest = bytes.NewReader(s.text)
	}
	return r.rest.Read(p)
}
