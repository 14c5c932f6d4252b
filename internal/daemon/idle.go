package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/operation"
)

// idle counts the calls that are being answered. Make one with newIdle.
type idle struct {
	mu      sync.Mutex
	calls   int
	changed chan struct{} // closed and replaced when a call begins or ends
}

func newIdle() *idle { return &idle{changed: make(chan struct{})} }

// begin counts a call until the returned function is called.
func (i *idle) begin() (end func()) {
	i.add(1)
	return sync.OnceFunc(func() { i.add(-1) })
}

func (i *idle) add(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls += n
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *idle) state() (calls int, changed <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.calls, i.changed
}

// wait returns nil once there was no call and no active operation for the time limit,
// counted from now at the earliest, or the cause of ctx's end. With 0 it waits for ctx.
func (i *idle) wait(ctx context.Context, limit time.Duration, r *operation.Runner) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		operationChanged := r.Changed()
		calls, callChanged := i.state()
		_, active := r.Active()
		var expired <-chan time.Time
		if calls == 0 && !active && limit > 0 {
			timer.Reset(limit)
			expired = timer.C
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-callChanged:
		case <-operationChanged:
		case <-expired:
			select { // a call at the same moment counts
			case <-callChanged:
			case <-operationChanged:
			default:
				return nil
			}
		}
	}
}

// trim calls free each time that there was no call for the time limit, and then not again
// before the next call, so that a waiting daemon is small. It returns when ctx ends.
func (i *idle) trim(ctx context.Context, limit time.Duration, free func()) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		calls, changed := i.state()
		var expired <-chan time.Time
		if calls == 0 {
			timer.Reset(limit)
			expired = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-expired:
			free()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
