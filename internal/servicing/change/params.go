package change

import (
	"time"

	"github.com/trident-project/trident/internal/hostconfig"
)

// paramTimeout is an internal parameter of ours: how many seconds each step that fetches
// may take.
const paramTimeout = "fetchTimeout"

// FetchTimeout returns how long each step that fetches may take; 0 is no limit.
func FetchTimeout(c *hostconfig.Config) time.Duration {
	return time.Duration(min(Number(c, paramTimeout), 1<<30)) * time.Second
}

// Flag reports whether an internal parameter is true.
func Flag(c *hostconfig.Config, name string) bool {
	on, _ := c.Spec().InternalParams[name].(bool)
	return on
}

// Number returns an internal parameter that is a number; 0 if it is absent or another type.
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
