package hoststate

import "github.com/trident-project/trident/internal/errkind"

// A Phase is the servicing state of this host: Fresh, Settled, Staged or Trying.
// Each value is one of upstream's servicing states, so upstream can read every
// phase.
type Phase interface {
	// State returns upstream's name of the phase (ab-update-staged).
	State() string
	phase()
}

// Fresh is the phase of a host that Trident has not provisioned.
type Fresh struct{}

// Settled is the phase of a host that runs its configuration.
type Settled struct{}

// Staged is the phase of a host with a staged configuration that does not run yet.
type Staged string

// What can be staged.
const (
	StagedInstall         Staged = "clean-install-staged"
	StagedABUpdate        Staged = "ab-update-staged"
	StagedRuntimeUpdate   Staged = "runtime-update-staged"
	StagedABRollback      Staged = "manual-rollback-ab-staged"
	StagedRuntimeRollback Staged = "manual-rollback-runtime-staged"
)

// Trying is the phase of a host whose firmware boots a system that is not
// committed.
type Trying string

// The values of Trying. TryingABUpdateFailed is an update whose health check
// failed after the boot: the next boot starts the previous system.
const (
	TryingInstall        Trying = "clean-install-finalized"
	TryingABUpdate       Trying = "ab-update-finalized"
	TryingABUpdateFailed Trying = "ab-update-health-check-failed"
	TryingABRollback     Trying = "manual-rollback-ab-finalized"
)

// State implements Phase.
func (Fresh) State() string { return "not-provisioned" }

// State implements Phase.
func (Settled) State() string { return "provisioned" }

// State implements Phase.
func (s Staged) State() string { return string(s) }

// State implements Phase.
func (t Trying) State() string { return string(t) }

func (Fresh) phase()   {}
func (Settled) phase() {}
func (Staged) phase()  {}
func (Trying) phase()  {}

// PhaseOf returns the phase with upstream's name state.
func PhaseOf(state string) (Phase, error) {
	switch state {
	case Fresh{}.State():
		return Fresh{}, nil
	case Settled{}.State():
		return Settled{}, nil
	}
	switch s := Staged(state); s {
	case StagedInstall, StagedABUpdate, StagedRuntimeUpdate, StagedABRollback, StagedRuntimeRollback:
		return s, nil
	}
	switch t := Trying(state); t {
	case TryingInstall, TryingABUpdate, TryingABUpdateFailed, TryingABRollback:
		return t, nil
	}
	return nil, errkind.Errorf(errkind.Invalid, "unknown servicing state %.80q", state)
}

// A Volume is one of the two sets of volumes of a host with A/B updates. The zero
// value is a host without A/B updates, or one on which no volume is active yet.
type Volume string

// The volumes.
const (
	VolumeA Volume = "volume-a"
	VolumeB Volume = "volume-b"
)
