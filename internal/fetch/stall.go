package fetch

import (
	"context"
	"errors"
	"io"
	"time"
)

var errStalled = errors.New("no byte came for too long")

// watched ends a context with errStalled when a Read takes too long; the reader
// must heed that context. Time between reads, which is ours, does not count.
type watched struct {
	ctx   context.Context
	r     io.Reader
	timer *time.Timer
	stall time.Duration
}

func newWatched(ctx context.Context, cancel context.CancelCauseFunc, stall time.Duration, r io.Reader) *watched {
	w := &watched{ctx, r, time.AfterFunc(stall, func() { cancel(errStalled) }), stall}
	w.timer.Stop()
	return w
}

func (w *watched) Read(b []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.r.Read(b)
	w.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	return n, err
}
