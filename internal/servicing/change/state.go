package change

import (
	"context"
	"fmt"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// State is the recorded status of a host, with its configurations parsed.
type State struct {
	Status hoststate.Status
	Phase  hoststate.Phase
	// Runs is the configuration that the host has; nil if it was never provisioned.
	Runs *hostconfig.Config
	// Next is the configuration that is staged or on trial; nil if there is none.
	Next *hostconfig.Config
}

// Begin begins the operation that a request needs.
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

// ParseSpec parses a recorded configuration. An empty text is the record of a host that
// another installer made; ParseSpec returns [hostconfig.Empty] for it.
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

// ImageOf returns the image hash in a recorded configuration, or "".
func ImageOf(spec string) string {
	c, err := ParseSpec(spec)
	if err != nil || c.Spec().Image == nil || c.Spec().Image.SHA384 == hostconfig.HashIgnored {
		return ""
	}
	return string(c.Spec().Image.SHA384)
}
