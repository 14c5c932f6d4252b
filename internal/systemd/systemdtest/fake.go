// Package systemdtest has a systemd in memory, and a suite that both it and the real
// systemd pass, so that tests with the one in memory hold for the real one.
package systemdtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// Definition is the part of a unit file that Fake understands.
type Definition struct {
	Name string
	// Start is the result of a job that starts the unit: "" means done, "failed"
	// that its program fails and leaves the unit failed with Result, "timeout"
	// that the job gives up while the unit goes on starting.
	Start  string
	Result string // exit-code, signal, …
	// Hang makes a start last until its caller gives up.
	Hang bool
	// Reloads says that the unit can be reloaded: it then keeps its process.
	Reloads bool
	// Oneshot units have no process once they are active.
	Oneshot bool
	Masked  bool
	// Alias is another name of the unit.
	Alias string
	// RequiredBy, Requires and Conflicts are units in relation to this one.
	RequiredBy, Requires, Conflicts []string
}

// Call is one call of a method of [systemd.Manager].
type Call struct {
	// Method is Restart, ReloadOrRestart, StartTransient, Stop, Reload, Enable, Reboot, ResetFailed,
	// Version, Unit, List, or a systemd.Job.
	Method    string
	Unit      string // "" for Reload, Reboot, Version and List
	Transient systemd.Transient
}

// Fake is a systemd in memory. The zero value has no units. Methods may
// be called from many goroutines.
type Fake struct {
	// Hook, if set before the first call, is called with each call before the call has
	// an effect. An error of Hook is the result of the call. Hook may call the Fake.
	Hook func(context.Context, Call) error
	// Release is the result of Version; 0 stands for 257.
	Release int

	mu      sync.Mutex
	defined map[string]Definition // by Define; in force after Reload
	loaded  map[string]Definition
	units   map[string]systemd.Unit
	enabled map[string]bool
	calls   []Call
	last    uint32 // process and invocation counter
	watches map[chan string]bool
}

var _ systemd.Host = (*Fake)(nil)

// Define writes a unit file. As with the real systemd, a loaded unit does not change
// until Reload.
func (f *Fake) Define(d Definition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.defined == nil {
		f.defined, f.loaded, f.units = map[string]Definition{}, map[string]Definition{}, map[string]systemd.Unit{}
	}
	f.defined[d.Name] = d
}

// Set puts unit into the state u without a call, as a crash does. It makes a unit file if
// there is none.
func (f *Fake) Set(unit string, u systemd.Unit) {
	if f.missing(unit) {
		f.Define(Definition{Name: unit})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load(unit)
	f.units[unit] = u
	f.announce(unit, u)
}

// Calls returns the calls so far, in order.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *Fake) missing(unit string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.load(unit)
	return !ok
}

// load is called with f.mu held.
func (f *Fake) load(unit string) (Definition, bool) {
	if d, ok := f.loaded[unit]; ok {
		return d, true
	}
	d, ok := f.defined[unit]
	if ok {
		f.loaded[unit] = d
		if _, ok := f.units[unit]; !ok {
			f.units[unit] = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success"}
		}
	}
	return d, ok
}

func (f *Fake) record(ctx context.Context, c Call) error {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return contextError(ctx, c)
	}
	if f.Hook != nil {
		return f.Hook(ctx, c)
	}
	return nil
}

func contextError(ctx context.Context, c Call) error {
	kind := errkind.Cancelled
	if ctx.Err() == context.DeadlineExceeded {
		kind = errkind.Timeout
	}
	return errkind.Errorf(kind, "%s %s: %w", c.Method, c.Unit, ctx.Err())
}

// start runs the start job of unit. Called with f.mu held.
func (f *Fake) start(verb, unit string, d Definition) error {
	if d.Start != "" && d.Start != "done" {
		u := systemd.Unit{Active: "failed", Sub: "failed", Result: d.Result}
		if d.Start == "timeout" { // the job gave up, the unit did not
			u = systemd.Unit{Active: "activating", Sub: "start", Result: "success"}
		}
		f.units[unit] = u
		f.announce(unit, u)
		return (&systemd.JobError{Verb: verb, Unit: unit, Result: d.Start, UnitResult: u.Result}).WithKind()
	}
	f.last++
	u := systemd.Unit{Active: "active", Sub: "running", Result: "success", MainPID: 1000 + f.last, Invocation: fmt.Sprintf("%032x", f.last)}
	if d.Oneshot {
		u.Sub, u.MainPID = "exited", 0
	}
	f.units[unit] = u
	return nil
}

func (f *Fake) startable(verb, unit string) (Definition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.load(unit)
	switch {
	case !ok:
		return d, errkind.Errorf(errkind.NotFound, "%s %s: unit %s not found", verb, unit, unit)
	case d.Masked:
		return d, errkind.Errorf(errkind.Precondition, "%s %s: unit %s is masked", verb, unit, unit)
	}
	return d, nil
}

// Restart implements [systemd.Manager]. The restart is over when it returns; its
// failure is seen only in Unit.
func (f *Fake) Restart(ctx context.Context, unit string) error {
	c := Call{Method: "Restart", Unit: unit}
	if err := f.record(ctx, c); err != nil {
		return err
	}
	d, err := f.startable("restart", unit)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.Hang {
		f.units[unit] = systemd.Unit{Active: "activating", Sub: "start", Result: "success"}
		return nil
	}
	_ = f.start("restart", unit, d)
	return nil
}

// ReloadOrRestart implements [systemd.Manager].
func (f *Fake) ReloadOrRestart(ctx context.Context, unit string) error {
	c := Call{Method: "ReloadOrRestart", Unit: unit}
	if err := f.record(ctx, c); err != nil {
		return err
	}
	d, err := f.startable("reload or restart", unit)
	if err != nil {
		return err
	}
	if d.Hang {
		f.Set(unit, systemd.Unit{Active: "activating", Sub: "start", Result: "success"})
		<-ctx.Done()
		return contextError(ctx, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.Reloads && f.units[unit].Active == "active" {
		return nil
	}
	return f.start("reload or restart", unit, d)
}

// StartTransient implements [systemd.Manager]. A program below /nonexistent
// cannot be started, and /bin/false fails at once; any other runs until Stop or
// its Timeout.
func (f *Fake) StartTransient(ctx context.Context, name string, t systemd.Transient) error {
	if err := f.record(ctx, Call{Method: "StartTransient", Unit: name, Transient: t}); err != nil {
		return err
	}
	if len(t.Exec) == 0 || !strings.HasPrefix(t.Exec[0], "/") {
		return errkind.Errorf(errkind.Invalid, "start %s: the program must be an absolute path", name)
	}
	if !f.missing(name) {
		return errkind.Errorf(errkind.Exists, "start %s: unit %s was already loaded", name, name)
	}
	if strings.HasPrefix(t.Exec[0], "/nonexistent/") {
		return &systemd.JobError{Verb: "start", Unit: name, Result: "failed"}
	}
	f.Define(Definition{Name: name})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load(name)
	delete(f.defined, name)
	if t.Timeout > 0 {
		time.AfterFunc(t.Timeout, func() { f.expire(name) })
	}
	err := f.start("start", name, Definition{})
	if start := f.last; t.Exec[0] == "/bin/false" {
		time.AfterFunc(t.Restart, func() { f.fail(name, start, t.Restart) })
	}
	return err
}

// fail ends the given start of the unit name with a failure. If every is not 0, the unit
// starts again each time that duration has passed, until Stop.
func (f *Fake) fail(name string, start uint32, every time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.units[name]
	switch {
	case !ok || u.Invocation != fmt.Sprintf("%032x", start):
		return
	case every == 0:
		f.collect(name)
		return
	}
	restarts := u.Restarts + 1
	_ = f.start("start", name, Definition{})
	u = f.units[name]
	u.Restarts = restarts
	f.units[name] = u
	next := f.last
	time.AfterFunc(every, func() { f.fail(name, next, every) })
}

func (f *Fake) expire(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collect(name)
}

// Stop implements [systemd.Manager].
func (f *Fake) Stop(ctx context.Context, unit string) error {
	if err := f.record(ctx, Call{Method: "Stop", Unit: unit}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.units[unit]; !ok {
		return nil
	}
	f.units[unit] = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success", Invocation: f.units[unit].Invocation}
	f.collect(unit)
	return nil
}

// collect forgets a unit that has no file. Called with f.mu held.
func (f *Fake) collect(unit string) {
	if _, ok := f.defined[unit]; !ok {
		delete(f.loaded, unit)
		delete(f.units, unit)
	}
}

// Reload implements [systemd.Manager].
func (f *Fake) Reload(ctx context.Context) error {
	if err := f.record(ctx, Call{Method: "Reload"}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for unit := range maps.Keys(f.loaded) {
		if d, ok := f.defined[unit]; ok {
			f.loaded[unit] = d
		}
	}
	return nil
}

// Unit implements [systemd.Manager].
func (f *Fake) Unit(ctx context.Context, unit string) (systemd.Unit, error) {
	if err := f.record(ctx, Call{Method: "Unit", Unit: unit}); err != nil {
		return systemd.Unit{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.load(unit); !ok {
		return systemd.Unit{}, errkind.Errorf(errkind.NotFound, "ask for %s: unit %s not found", unit, unit)
	}
	return f.units[unit], nil
}

// Enable implements [systemd.Manager].
func (f *Fake) Enable(ctx context.Context, unit string) error {
	if err := f.record(ctx, Call{Method: "Enable", Unit: unit}); err != nil {
		return err
	}
	if _, err := f.startable("enable", unit); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.enabled == nil {
		f.enabled = map[string]bool{}
	}
	f.enabled[unit] = true
	return nil
}

// Reboot implements [systemd.Manager]. It has no effect; Hook may have one.
func (f *Fake) Reboot(ctx context.Context) error { return f.record(ctx, Call{Method: "Reboot"}) }

// Enabled reports whether Enable was called for unit.
func (f *Fake) Enabled(unit string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.enabled[unit]
}

// Version implements [systemd.Manager].
func (f *Fake) Version(ctx context.Context) (int, error) {
	if err := f.record(ctx, Call{Method: "Version"}); err != nil {
		return 0, err
	}
	if f.Release != 0 {
		return f.Release, nil
	}
	return 257, nil
}
