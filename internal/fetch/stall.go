package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A source that sends less than leastRate bytes a second, on average over a rateWindow of
// waiting for it, is too slow. leastRate is the speed of a modem of 9600 baud; every useful
// server is faster.
const (
	leastRate  = 1 << 10
	rateWindow = time.Minute
	// requestCredit counts as bytes of each request that is answered, because an
	// answer takes its time even if it has few bytes.
	requestCredit = 8 << 10
)

var (
	errStalled = errors.New("the source sent no byte for too long")
	errSlow    = fmt.Errorf("the source sent less than %d bytes a second for %s", leastRate, rateWindow)
)

// pace is the rate of a source, over all requests to it. Time that this process spends
// otherwise, such as writing to a disk or keeping a bandwidth limit, does not count.
type pace struct {
	mu       sync.Mutex
	waited   time.Duration // in the present window
	received int64         // bytes in it
}

// add records that came bytes arrived after a wait of waited. It returns errSlow at the end
// of a window with too few bytes.
func (p *pace) add(waited time.Duration, came int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited += waited
	p.received += int64(came)
	if p.waited < rateWindow {
		return nil
	}
	slow := float64(p.received) < leastRate*p.waited.Seconds()
	p.waited, p.received = 0, 0
	if slow {
		return errSlow
	}
	return nil
}

// silence returns how long the source may send nothing until it is too slow; ok is false
// if that is not in this window.
func (p *pace) silence() (limit time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, rateWindow-p.waited), float64(p.received) < leastRate*rateWindow.Seconds()
}

// watched is a reader that cancels a context with errStalled if a Read takes too long, and
// with errSlow if the rate is too low. The inner reader must end with that context.
type watched struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	r      io.Reader
	timer  *time.Timer
	slow   *time.Timer
	stall  time.Duration
	pace   *pace
}

func newWatched(ctx context.Context, cancel context.CancelCauseFunc, stall time.Duration, pace *pace, r io.Reader) *watched {
	w := &watched{ctx: ctx, cancel: cancel, r: r, stall: stall, pace: pace}
	w.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	w.slow = time.AfterFunc(stall, func() { cancel(errSlow) })
	w.timer.Stop()
	w.slow.Stop()
	return w
}

func (w *watched) Read(b []byte) (int, error) {
	w.timer.Reset(w.stall)
	if left, ok := w.pace.silence(); ok && left < w.stall {
		w.slow.Reset(left)
	}
	begin := time.Now()
	n, err := w.r.Read(b)
	w.timer.Stop()
	w.slow.Stop()
	slow := w.pace.add(time.Since(begin), n)
	switch {
	case errors.Is(err, io.EOF):
	case err == nil && slow != nil:
		w.cancel(slow)
		err = slow
	case err != nil && w.ctx.Err() != nil:
		err = context.Cause(w.ctx)
	}
	return n, err
}
