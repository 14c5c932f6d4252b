package systemdtest

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// StartMount implements [systemd.Mounts]. It mounts nothing.
func (f *Fake) StartMount(ctx context.Context, name string, _ systemd.TransientMount) error {
	if err := f.record(ctx, Call{Method: "StartMount", Unit: name}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.units[name]; ok {
		return errkind.Errorf(errkind.Exists, "start %s: it is loaded already", name)
	}
	f.units[name] = systemd.Unit{Active: "active", Sub: "mounted", Result: "success"}
	return nil
}

// Disable implements [systemd.Mounts].
func (f *Fake) Disable(ctx context.Context, unit string) error {
	if err := f.record(ctx, Call{Method: "Disable", Unit: unit}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.enabled, unit)
	return nil
}

// ResetFailed implements [systemd.Mounts].
func (f *Fake) ResetFailed(ctx context.Context, unit string) error {
	if err := f.record(ctx, Call{Method: "ResetFailed", Unit: unit}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if u, ok := f.units[unit]; ok && u.Active == "failed" {
		f.units[unit] = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success", Invocation: u.Invocation}
		f.collect(unit)
	}
	return nil
}
