package systemd

import (
	"context"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/trident-project/trident/internal/errkind"
)

// Jobs is the part of systemd with which a person handles units. Errors are those of
// [Manager].
type Jobs interface {
	// List returns the loaded units whose name matches one of patterns and that are in one
	// of states, sorted by name. No pattern and no state matches all.
	List(ctx context.Context, patterns, states []string) ([]Listed, error)
	// Details returns a unit and its relations.
	Details(ctx context.Context, unit string) (Details, error)
	// Run runs a job and waits for its end. Unlike Units.Stop it fails for a unit that is
	// not loaded.
	Run(ctx context.Context, job Job, unit string) error
	// Failures calls failed with the name of each unit that fails from now on, until ctx
	// ends, or with an error when systemd cannot be watched any more. It calls ready, if that is
	// not nil, when it has begun to watch.
	Failures(ctx context.Context, ready func(), failed func(unit string)) error
}

// A Job is what to do with a unit.
type Job string

// The jobs of Run.
const (
	StartJob   Job = "start"
	StopJob    Job = "stop"
	RestartJob Job = "restart"
)

// Listed is an entry of a list of units, in systemd's own words.
type Listed struct {
	Name, Description string
	Load, Active, Sub string
}

// Details is what systemd knows of a unit.
type Details struct {
	Listed
	State Unit
	// Names are all names of the unit, sorted.
	Names        []string
	FragmentPath string
	FileState    string    // UnitFileState: enabled, disabled, static, …
	Changed      time.Time // of the active state; zero if it never changed
	Memory       uint64    // bytes; valid if HasMemory
	HasMemory    bool
	// StopsWith are the units that a stop of this unit stops, too.
	StopsWith []string
	// StartsWith are the units that a start of this unit starts, too.
	StartsWith []string
	// Conflicts are the units that a start of this unit stops.
	Conflicts []string
}

// List implements [Jobs].
func (b *Bus) List(ctx context.Context, patterns, states []string) ([]Listed, error) {
	conn, err := b.connect(ctx, "list", "units")
	if err != nil {
		return nil, err
	}
	units, err := conn.ListUnitsByPatternsContext(ctx, states, patterns)
	if err != nil {
		return nil, callError(ctx, "list", "units", err)
	}
	out := make([]Listed, len(units))
	for i, u := range units {
		out[i] = Listed{Name: u.Name, Description: u.Description, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState}
	}
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Details implements [Jobs].
func (b *Bus) Details(ctx context.Context, unit string) (Details, error) {
	p, err := b.properties(ctx, unit)
	if err != nil {
		return Details{}, err
	}
	text := func(name string) string { s, _ := p[name].(string); return s }
	d := Details{
		State: unitOf(p), Names: slices.Sorted(slices.Values(texts(p["Names"]))), FragmentPath: text("FragmentPath"), FileState: text("UnitFileState"),
		// The relations of org.freedesktop.systemd1(5).
		StopsWith:  related(p, "RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"),
		StartsWith: related(p, "Requires", "Requisite", "BindsTo", "Wants", "Upholds"),
		Conflicts:  related(p, "Conflicts", "ConflictedBy"),
	}
	d.Listed = Listed{Name: text("Id"), Description: text("Description"), Load: text("LoadState"), Active: d.State.Active, Sub: d.State.Sub}
	if usec, _ := p["StateChangeTimestamp"].(uint64); usec > 0 {
		d.Changed = time.UnixMicro(int64(usec))
	}
	// systemd has ^0 for a number that it does not count.
	if d.Memory, d.HasMemory = p["MemoryCurrent"].(uint64); d.Memory == ^uint64(0) {
		d.Memory, d.HasMemory = 0, false
	}
	return d, nil
}

func texts(property any) []string {
	list, _ := property.([]string)
	return list
}

// related returns the units that are in one of the relations, sorted.
func related(p map[string]any, relations ...string) []string {
	var out []string
	for _, name := range relations {
		out = append(out, texts(p[name])...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Run implements [Jobs].
func (b *Bus) Run(ctx context.Context, job Job, unit string) error {
	return b.runJob(ctx, string(job), unit, func(conn *connection, removed chan<- string) (int, error) {
		switch job {
		case StartJob:
			return conn.StartUnitContext(ctx, unit, "replace", removed)
		case StopJob:
			return conn.StopUnitContext(ctx, unit, "replace", removed)
		case RestartJob:
			return conn.RestartUnitContext(ctx, unit, "replace", removed)
		}
		return 0, errkind.Errorf(errkind.Invalid, "%q is not a job", job)
	})
}

// Failures implements [Jobs]. It has a connection of its own.
func (b *Bus) Failures(ctx context.Context, ready func(), failed func(unit string)) error {
	const doing, what = "watch", "units"
	conn, err := b.dialAny(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return contextError(ctx, doing, what)
		}
		return errkind.Errorf(errkind.Unavailable, "%s %s: connect to systemd: %w", doing, what, err)
	}
	defer conn.Close()
	updates, overflow := make(chan *sd.PropertiesUpdate, 1024), make(chan error, 1)
	conn.SetPropertiesSubscriber(updates, overflow)
	if ready != nil {
		ready()
	}
	for {
		select {
		case u := <-updates:
			if state, ok := u.Changed["ActiveState"]; ok && state.Value() == "failed" {
				failed(u.UnitName)
			}
		case err := <-overflow:
			return errkind.Errorf(errkind.Unavailable, "%s %s: %w", doing, what, err)
		case <-conn.gone.Done():
			return errkind.Errorf(errkind.Unavailable, "%s %s: the connection to systemd was lost", doing, what)
		case <-ctx.Done():
			return contextError(ctx, doing, what)
		}
	}
}
