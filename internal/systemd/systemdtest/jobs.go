package systemdtest

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// List implements [systemd.Jobs].
func (f *Fake) List(ctx context.Context, patterns, states []string) ([]systemd.Listed, error) {
	if err := f.record(ctx, Call{Method: "List"}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []systemd.Listed
	for _, name := range slices.Sorted(maps.Keys(f.units)) {
		one := f.listed(name)
		matches := len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
		isIn := len(states) == 0 || slices.ContainsFunc(states, func(s string) bool { return s == one.Load || s == one.Active || s == one.Sub })
		if matches && isIn {
			out = append(out, one)
		}
	}
	return out, nil
}

// listed is called with f.mu held.
func (f *Fake) listed(name string) systemd.Listed {
	u := f.units[name]
	load := "loaded"
	if f.loaded[name].Masked {
		load = "masked"
	}
	return systemd.Listed{Name: name, Description: name, Load: load, Active: u.Active, Sub: u.Sub}
}

// aliased returns the name of the unit that has the name or the alias. Called with f.mu held.
func (f *Fake) aliased(unit string) string {
	for name, d := range f.defined {
		if d.Alias == unit {
			return name
		}
	}
	return unit
}

// Details implements [systemd.Jobs].
func (f *Fake) Details(ctx context.Context, unit string) (systemd.Details, error) {
	if err := f.record(ctx, Call{Method: "Unit", Unit: unit}); err != nil {
		return systemd.Details{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := f.aliased(unit)
	d, ok := f.load(name)
	if !ok {
		return systemd.Details{}, errkind.Errorf(errkind.NotFound, "ask for %s: unit %s not found", unit, unit)
	}
	names := []string{name}
	if d.Alias != "" {
		names = append(names, d.Alias)
	}
	slices.Sort(names)
	return systemd.Details{
		Listed: f.listed(name), State: f.units[name], Names: names,
		StopsWith: d.RequiredBy, StartsWith: d.Requires, Conflicts: d.Conflicts,
	}, nil
}

// Run implements [systemd.Jobs].
func (f *Fake) Run(ctx context.Context, job systemd.Job, unit string) error {
	c := Call{Method: string(job), Unit: unit}
	if err := f.record(ctx, c); err != nil {
		return err
	}
	d, err := f.startable(string(job), unit)
	if err != nil && (job != systemd.StopJob || errkind.Of(err) == errkind.NotFound) {
		return err
	}
	f.mu.Lock()
	if job == systemd.StopJob {
		defer f.mu.Unlock()
		f.units[unit] = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success", Invocation: f.units[unit].Invocation}
		return nil
	}
	if d.Hang {
		f.units[unit] = systemd.Unit{Active: "activating", Sub: "start", Result: "success"}
		f.mu.Unlock()
		<-ctx.Done()
		return contextError(ctx, c)
	}
	defer f.mu.Unlock()
	if job == systemd.StartJob && f.units[unit].Active == "active" {
		return nil
	}
	return f.start(string(job), unit, d)
}

// Failures implements [systemd.Jobs].
func (f *Fake) Failures(ctx context.Context, ready func(), failed func(unit string)) error {
	units := make(chan string, 1024)
	f.mu.Lock()
	if f.watches == nil {
		f.watches = map[chan string]bool{}
	}
	f.watches[units] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, units)
	}()
	if ready != nil {
		ready()
	}
	for {
		select {
		case unit := <-units:
			failed(unit)
		case <-ctx.Done():
			return contextError(ctx, Call{Method: "watch", Unit: "units"})
		}
	}
}

// announce tells the watches of a unit that has failed. Called with f.mu held.
func (f *Fake) announce(unit string, u systemd.Unit) {
	for watch := range f.watches {
		if u.Active == "failed" {
			watch <- unit
		}
	}
}

// Login is a logind in memory. The zero value has no inhibitors.
type Login struct {
	Locks []systemd.Inhibitor
	// Fault is the error of each call.
	Fault error
	// Requests has "reboot" or "power off" for each accepted request.
	Requests []string
}

var _ systemd.Login = (*Login)(nil)

// Inhibitors implements [systemd.Login].
func (l *Login) Inhibitors(context.Context) ([]systemd.Inhibitor, error) { return l.Locks, l.Fault }

// Reboot implements [systemd.Login].
func (l *Login) Reboot(_ context.Context, ignoreInhibitors bool) error {
	return l.request("reboot", ignoreInhibitors)
}

// PowerOff implements [systemd.Login].
func (l *Login) PowerOff(_ context.Context, ignoreInhibitors bool) error {
	return l.request("power off", ignoreInhibitors)
}

func (l *Login) request(what string, ignoreInhibitors bool) error {
	var err error
	if !ignoreInhibitors && slices.ContainsFunc(l.Locks, systemd.Inhibitor.PreventsShutdown) {
		err = errkind.Errorf(errkind.Precondition, "%s the host: operation is blocked by inhibitor lock", what)
	}
	if err = cmp.Or(l.Fault, err); err == nil {
		l.Requests = append(l.Requests, what)
	}
	return err
}
