package change

import (
	"context"
	"fmt"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// State is what a host is by its record, and what it has staged.
type State struct {
	Status hoststate.Status
	Phase  hoststate.Phase
	// Runs is the configuration that the host has; nil if it was never provisioned.
	Runs *hostconfig.Config
	// Next is what is staged, or tried; nil if nothing is.
	Next *hostconfig.Config
}

// Begin begins the operation that a request comes to.
type Begin func(context.Context) (operation.Operation, error)

// State reads the state of the host.
func (h *Host) State(ctx context.Context) (State, error) {
	status, err := h.Store.Status(ctx)
	if err != nil {
		return State{}, err
	}
	st := State{Status: status, Phase: status.Phase}
	runs := status.SpecOld
	switch status.Phase {
	case hoststate.Fresh{}:
		return st, nil
	case hoststate.Settled{}:
		runs = status.Spec
	default:
		if st.Next, err = ParseSpec(status.Spec); err != nil {
			return State{}, err
		}
	}
	if status.Phase == hoststate.StagedInstall || status.Phase == hoststate.TryingInstall {
		return st, nil
	}
	st.Runs, err = ParseSpec(runs)
	return st, err
}

// ParseSpec parses a recorded configuration. An empty one is that of a host that was
// taken into care as it was.
func ParseSpec(text string) (*hostconfig.Config, error) {
	if text == "" {
		return hostconfig.Empty(), nil
	}
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the recorded configuration: %w", err)
	}
	return c, nil
}
