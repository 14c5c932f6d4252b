package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/operation"
)

// idle knows whether anybody calls. Its zero value is not usable.
type idle struct {
	mu      sync.Mutex
	calls   int
	changed chan struct{} // closed and replaced when a call begins or ends
}

func newIdle() *idle { return &idle{changed: make(chan struct{})} }

// begin counts a call until the function that it returns is called.
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

// wait returns nil when nobody has called and nothing was done for a while,
// counted from now at the earliest, or the cause of ctx's end. A while of 0 never
// passes.
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
			select { // what came in the same moment counts
			case <-callChanged:
			case <-operationChanged:
			default:
				return nil
			}
		}
	}
}

// trim calls free whenever nobody has called for a while, once until the next
// call: a daemon that only waits should be small. It returns when ctx ends.
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
