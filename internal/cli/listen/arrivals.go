package listen

import (
	"context"
	"slices"
	"sync"

	"github.com/trident-project/trident/proto/client"
)

// arrival is a host that has connected for the first time.
type arrival struct {
	Host    string `json:"host"`
	Address string `json:"address"`
}

// arrivals has each host once, in the order of arrival. Its methods may be called concurrently.
type arrivals struct {
	only []string

	mu   sync.Mutex
	seen map[string]bool
	list []arrival
	more chan struct{} // has a value after list has grown
}

func newArrivals(only []string) *arrivals {
	return &arrivals{only: only, seen: map[string]bool{}, more: make(chan struct{}, 1)}
}

func (a *arrivals) add(c client.HostConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[c.Identity] || len(a.only) > 0 && !slices.Contains(a.only, c.Identity) {
		return
	}
	a.seen[c.Identity] = true
	a.list = append(a.list, arrival{c.Identity, c.RemoteAddr().String()})
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// next returns the next host, or an error when ctx ends.
func (a *arrivals) next(ctx context.Context) (arrival, error) {
	for {
		a.mu.Lock()
		if len(a.list) > 0 {
			first := a.list[0]
			a.list = a.list[1:]
			a.mu.Unlock()
			return first, nil
		}
		a.mu.Unlock()
		select {
		case <-a.more:
		case <-ctx.Done():
			return arrival{}, context.Cause(ctx)
		}
	}
}
