package record

import (
	"encoding/json"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
)

// A Purpose is what an operation is for: an update into the other slot, an installation, or
// a rollback to the other slot.
type Purpose int

const (
	Updates Purpose = iota
	Installs
	GoesBack
)

// On returns the type of servicing for which scripts and health checks are chosen.
func (p Purpose) On() hostconfig.ServicingType {
	if p == Installs {
		return hostconfig.OnCleanInstall
	}
	return hostconfig.OnABUpdate
}

// Staged returns the phase of a host after staging.
func (p Purpose) Staged() hoststate.Staged {
	return [...]hoststate.Staged{hoststate.StagedABUpdate, hoststate.StagedInstall, hoststate.StagedABRollback}[p]
}

// Trying returns the phase of a host from "try" to the end of the trial.
func (p Purpose) Trying() hoststate.Trying {
	return [...]hoststate.Trying{hoststate.TryingABUpdate, hoststate.TryingInstall, hoststate.TryingABRollback}[p]
}

// plainRecord is Record without its methods.
type plainRecord Record

// MarshalJSON writes the purpose as the fields "install" and "back", which other releases
// read.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainRecord
		Install bool `json:"install"`
		Back    bool `json:"back"`
	}{plainRecord(r), r.Purpose == Installs, r.Purpose == GoesBack})
}

// UnmarshalJSON reads what MarshalJSON, or an earlier release, wrote.
func (r *Record) UnmarshalJSON(text []byte) error {
	in := struct {
		*plainRecord
		Install bool `json:"install"`
		Back    bool `json:"back"`
	}{plainRecord: (*plainRecord)(r)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	switch r.Purpose = Updates; {
	case in.Install:
		r.Purpose = Installs
	case in.Back:
		r.Purpose = GoesBack
	}
	return nil
}
