package slots

import (
	"encoding/json"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
)

// A purpose is what an operation is for: an update into the other slot, an installation, or
// a rollback to the other slot.
type purpose int

const (
	updates purpose = iota
	installs
	goesBack
)

// on returns the type of servicing for which scripts and health checks are chosen.
func (p purpose) on() hostconfig.ServicingType {
	if p == installs {
		return hostconfig.OnCleanInstall
	}
	return hostconfig.OnABUpdate
}

// staged returns the phase of a host after staging.
func (p purpose) staged() hoststate.Staged {
	return [...]hoststate.Staged{hoststate.StagedABUpdate, hoststate.StagedInstall, hoststate.StagedABRollback}[p]
}

// trying returns the phase of a host from "try" to the end of the trial.
func (p purpose) trying() hoststate.Trying {
	return [...]hoststate.Trying{hoststate.TryingABUpdate, hoststate.TryingInstall, hoststate.TryingABRollback}[p]
}

// plainRecord is record without its methods.
type plainRecord record

// MarshalJSON writes the purpose as the fields "install" and "back", which other releases
// read.
func (r record) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainRecord
		Install bool `json:"install"`
		Back    bool `json:"back"`
	}{plainRecord(r), r.Purpose == installs, r.Purpose == goesBack})
}

// UnmarshalJSON reads what MarshalJSON, or an earlier release, wrote.
func (r *record) UnmarshalJSON(text []byte) error {
	in := struct {
		*plainRecord
		Install bool `json:"install"`
		Back    bool `json:"back"`
	}{plainRecord: (*plainRecord)(r)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	switch r.Purpose = updates; {
	case in.Install:
		r.Purpose = installs
	case in.Back:
		r.Purpose = goesBack
	}
	return nil
}
