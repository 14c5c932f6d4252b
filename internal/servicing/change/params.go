package change

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
)

// paramTimeout is an internal parameter of ours: how many seconds each step that fetches
// may take.
const paramTimeout = "fetchTimeout"

// FetchTimeout returns how long each step that fetches may take; 0 is no limit.
func FetchTimeout(c *hostconfig.Config) time.Duration {
	return time.Duration(min(Number(c, paramTimeout), 1<<30)) * time.Second
}

// paramExtensionBudget is an internal parameter of ours: how many bytes one operation may receive
// over the network for extensions.
const paramExtensionBudget = "extensionDataBudget"

// SpendingOn calls use with the extensions of a configuration, which have one budget if the
// configuration sets internalParams.extensionDataBudget. The budget counts what the operation id
// has received, also before a restart, in a file of its WorkDir.
func (h *Host) SpendingOn(c *hostconfig.Config, id string, use func([]extension.Source) error) (err error) {
	sources := ExtensionSources(c)
	allowed := Number(c, paramExtensionBudget)
	if allowed <= 0 || len(sources) == 0 {
		return use(sources)
	}
	dir := h.WorkDir(id)
	if err := h.Touch("make work folder", func() error { return os.MkdirAll(dir, 0o700) }); err != nil {
		return err
	}
	budget, err := extension.OpenBudget(filepath.Join(dir, "extensions"), allowed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Touch("record received bytes", budget.Close)) }()
	for i := range sources {
		sources[i].Budget = budget
	}
	return use(sources)
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
