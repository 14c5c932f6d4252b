package selfservice

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// journalOf, storeOf and systemdOf are what a process has of its host: nothing
// once it is dead.
type journalOf struct{ *process }

func (j journalOf) alive() (*operationtest.Memory, error) {
	j.w.Mu.Lock()
	defer j.w.Mu.Unlock()
	if j.dead || !j.w.on {
		return nil, errDead
	}
	return j.w.disk.journal, nil
}

func (j journalOf) Save(ctx context.Context, op operation.Operation, e ...operation.Event) error {
	m, err := j.alive()
	if err != nil {
		return err
	}
	return m.Save(ctx, op, e...)
}

func (j journalOf) Load(ctx context.Context, id string) (operation.Operation, error) {
	m, err := j.alive()
	if err != nil {
		return operation.Operation{}, err
	}
	return m.Load(ctx, id)
}

func (j journalOf) List(ctx context.Context, limit int, unsettled bool) ([]operation.Operation, error) {
	m, err := j.alive()
	if err != nil {
		return nil, err
	}
	return m.List(ctx, limit, unsettled)
}

func (j journalOf) Events(ctx context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	m, err := j.alive()
	if err != nil {
		return nil, err
	}
	return m.Events(ctx, id, after, limit)
}

type storeOf struct{ *process }

func (s storeOf) Block(_ context.Context, b hoststate.Blocked) error {
	s.w.Mu.Lock()
	defer s.w.Mu.Unlock()
	s.w.disk.blocked[b.Version] = b
	return nil
}

func (s storeOf) Unblock(_ context.Context, version string) error {
	s.w.Mu.Lock()
	defer s.w.Mu.Unlock()
	delete(s.w.disk.blocked, version)
	return nil
}

func (s storeOf) Blocked(context.Context) (out []hoststate.Blocked, err error) {
	s.w.Mu.Lock()
	defer s.w.Mu.Unlock()
	for _, b := range s.w.disk.blocked {
		out = append(out, b)
	}
	return out, nil
}

func (s storeOf) Snapshot(_ context.Context, path string) error {
	return os.WriteFile(path, []byte("datastore"), 0o600)
}

// systemdOf is systemd as far as an upgrade needs it. Its calls are made within
// touches, so it need not ask whether the power is on.
type systemdOf struct{ *process }

func (s systemdOf) Restart(_ context.Context, unit string) error {
	if unit != daemonUnit {
		return errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	s.w.spawn(func() {
		time.Sleep(time.Millisecond) // the job comes after the answer
		s.w.Mu.Lock()
		current := s.w.on && s.w.daemon == s.process
		s.w.Mu.Unlock()
		if current {
			s.w.restart()
		}
	})
	return nil
}

func (s systemdOf) ReloadOrRestart(_ context.Context, unit string) error {
	if unit != sysextUnit {
		return errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	time.Sleep(300 * time.Millisecond)
	return s.w.merge()
}

func (s systemdOf) StartTransient(_ context.Context, name string, t systemd.Transient) error {
	s.w.Mu.Lock()
	there := s.w.watching[name] != nil || s.w.watching["boot"] != nil
	s.w.Mu.Unlock()
	if there {
		return errkind.Errorf(errkind.Exists, "unit %s", name)
	}
	if _, err := os.Stat(filepath.Join(s.w.disk.root, t.Exec[0])); err != nil {
		return err
	}
	s.w.watch(name)
	return nil
}

func (systemdOf) Stop(context.Context, string) error   { return nil }
func (systemdOf) Reload(context.Context) error         { return nil }
func (systemdOf) Version(context.Context) (int, error) { return 257, nil }
func (s systemdOf) Unit(_ context.Context, unit string) (systemd.Unit, error) {
	s.w.Mu.Lock()
	defer s.w.Mu.Unlock()
	if unit == daemonUnit {
		return s.w.unit, nil
	}
	if unit == filepath.Base(bootUnitPath) {
		unit = "boot"
	}
	if s.w.watching[unit] == nil {
		return systemd.Unit{}, errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	return systemd.Unit{Active: "active"}, nil
}

// Enable takes the only unit whose being enabled matters here.
func (s systemdOf) Reboot(context.Context) error {
	return errkind.Errorf(errkind.Internal, "nothing here reboots the host")
}

func (s systemdOf) Enable(_ context.Context, unit string) error {
	if unit != sysextUnit {
		return errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	return s.w.disk.enable()
}

// enable has what the link points to merged at every boot.
func (d disk) enable() error {
	path := filepath.Join(d.root, "etc/systemd/system/sysinit.target.wants", sysextUnit)
	return errors.Join(hosttest.MkdirAll(filepath.Dir(path)), os.WriteFile(path, nil, 0o644))
}

func (d disk) enabled() bool {
	_, err := os.Stat(filepath.Join(d.root, "etc/systemd/system/sysinit.target.wants", sysextUnit))
	return err == nil
}

// rescuerOf is the host as one boot's rescuer has it.
type rescuerOf struct {
	*world
	root string
	of   int
	life context.Context
}

func (r rescuerOf) alive() error {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	if !r.on || r.boot != r.of {
		return errDead
	}
	return context.Cause(r.life)
}

func (r rescuerOf) Version(ctx context.Context) (string, error) { return r.version(ctx) }

func (r rescuerOf) Unit(context.Context) (rescue.Unit, error) {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	return rescue.Unit{Active: r.unit.Active, Restarts: int(r.unit.Restarts), PID: int(r.unit.MainPID), Run: r.unit.Invocation}, nil
}

func (r rescuerOf) Exits(context.Context) ([]rescue.Exit, error) {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	return slices.Clone(r.exits), nil
}

func (r rescuerOf) SetLink(link string) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: swing", func() error { return rescue.SystemHost{Root: r.root}.SetLink(link) })
}

func (r rescuerOf) Refresh(context.Context) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: refresh", r.merge)
}

func (r rescuerOf) Restart(context.Context) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: restart", func() error { r.restart(); return nil })
}

// Logf is called right after the rescuer has decided, so the power may be cut
// there as well.
func (r rescuerOf) Logf(string, ...any) {
	if r.alive() == nil {
		_ = r.touch(nil, "rescuer: says", func() error { return nil })
	}
}
