package hoststate

import "github.com/trident-project/trident/internal/errkind"

// A Phase is how far servicing of this host has come: Fresh, Settled, Staged or
// Trying. Each value is one of upstream's servicing states, so that there is no
// phase that upstream could not read, such as a runtime update that waits for a
// reboot.
type Phase interface {
	// State is upstream's name of the phase (ab-update-staged).
	State() string
	phase()
}

// Fresh is a host that Trident has not provisioned.
type Fresh struct{}

// Settled is a host that runs what it is meant to run.
type Settled struct{}

// Staged is a host that has on its disk what it does not run yet.
type Staged string

// What can be staged.
const (
	StagedInstall         Staged = "clean-install-staged"
	StagedABUpdate        Staged = "ab-update-staged"
	StagedRuntimeUpdate   Staged = "runtime-update-staged"
	StagedABRollback      Staged = "manual-rollback-ab-staged"
	StagedRuntimeRollback Staged = "manual-rollback-runtime-staged"
)

// Trying is a host whose firmware boots something that has not been committed.
type Trying string

// What can be tried. Failed is an update that was found unhealthy after its
// boot: the next boot is to be of what was there before.
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

// PhaseOf is the phase that upstream calls by that name.
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
	return nil, errkind.Errorf(errkind.Invalid, "there is no servicing state %.80q", state)
}

// A Volume is one of the two sets of volumes of a host with A/B updates; the
// zero value is a host without, or one where none is active yet.
type Volume string

// The volumes.
const (
	VolumeA Volume = "volume-a"
	VolumeB Volume = "volume-b"
)
