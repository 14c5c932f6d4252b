package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
)

// Probe checks that this tridentd could take over: that it starts at all, that
// it can read a copy of the datastore (which it may change), and that it knows
// how to carry on with what is unsettled in it. It prints who it is. It needs
// neither root nor a socket nor systemd, and changes nothing else.
func Probe(ctx context.Context, c Config, datastore string, out io.Writer) error {
	if datastore != "" {
		if err := probeStore(ctx, c, datastore); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	return json.NewEncoder(out).Encode(struct {
		Version string `json:"version"`
		OK      bool   `json:"ok"`
	}{c.Version, true})
}

func probeStore(ctx context.Context, c Config, path string) error {
	store, err := hoststate.Open(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	runner, err := operation.New(ctx, operation.Config{Journal: store, Logger: c.Logger})
	if err != nil {
		return err
	}
	selfservice.New(selfservice.Config{Root: c.Root, Version: c.Version, Runner: runner, Store: store, Logger: c.Logger})
	return runner.Check()
}
