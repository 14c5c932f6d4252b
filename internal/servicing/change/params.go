package change

import (
	"context"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
)

// paramTimeout is an internal parameter of ours: how many seconds each step that fetches
// may take.
const paramTimeout = "fetchTimeout"

// FetchTime bounds a step that fetches, as the configuration says.
func FetchTime(ctx context.Context, c *hostconfig.Config) (context.Context, context.CancelFunc) {
	return fetch.WithTimeout(ctx, time.Duration(min(Number(c, paramTimeout), 1<<30))*time.Second)
}

// Flag is an internal parameter that is switched on.
func Flag(c *hostconfig.Config, name string) bool {
	on, _ := c.Spec().InternalParams[name].(bool)
	return on
}

// Number is an internal parameter that is a number of bytes; 0 where it is not
// there.
func Number(c *hostconfig.Config, name string) int64 {
	switch n := c.Spec().InternalParams[name].(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case uint64:
		return int64(min(n, 1<<62))
	case float64:
		return int64(n)
	}
	return 0
}
