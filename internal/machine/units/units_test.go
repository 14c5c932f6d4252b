package units

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// host returns a systemd with units that run, and the jobs that it has run.
func host(t *testing.T, definitions ...systemdtest.Definition) (*Service, func() []string) {
	t.Helper()
	fake := &systemdtest.Fake{}
	for _, d := range definitions {
		fake.Define(d)
		if err := fake.Run(t.Context(), systemd.StartJob, d.Name); err != nil {
			t.Fatal(err)
		}
	}
	before := len(fake.Calls())
	return &Service{Jobs: fake}, func() (jobs []string) {
		for _, c := range fake.Calls()[before:] {
			if c.Method != "Unit" && c.Method != "List" {
				jobs = append(jobs, c.Method+" "+c.Unit)
			}
		}
		return jobs
	}
}

func TestAJobRunsForAnOrdinaryUnit(t *testing.T) {
	s, jobs := host(t, systemdtest.Definition{Name: "web.service", Alias: "www.service"})
	for _, job := range []systemd.Job{systemd.StopJob, systemd.StartJob, systemd.RestartJob} {
		if err := s.Run(t.Context(), job, "www.service", false); err != nil {
			t.Fatal(err)
		}
	}
	if got := jobs(); !slices.Equal(got, []string{"stop web.service", "start web.service", "restart web.service"}) {
		t.Errorf("jobs %q", got)
	}
}

func TestAJobThatWouldCutOffTheCallerIsRefusedByName(t *testing.T) {
	definitions := []systemdtest.Definition{
		{Name: "tridentd.service"}, {Name: "tridentd.socket", RequiredBy: []string{"tridentd.service"}},
		{Name: "dbus.service", Alias: "messagebus.service"}, {Name: "dbus.socket"}, {Name: "init.scope"}, {Name: "-.slice"},
		{Name: "trident-gateway.service"}, {Name: "systemd-journald-dev-log.socket"},
		{Name: "ssh.service", Alias: "sshd.service"},
		{Name: "sysinit.target", RequiredBy: []string{"basic.target"}}, {Name: "basic.target", RequiredBy: []string{"tridentd.service"}},
		{Name: "loop-a.service", RequiredBy: []string{"loop-b.service"}}, {Name: "loop-b.service", RequiredBy: []string{"loop-a.service"}},
	}
	for _, c := range []struct {
		job           systemd.Job
		unit          string
		mayDisconnect bool
		says          string // "": the job runs
	}{
		{systemd.StopJob, "tridentd.service", true, "stop tridentd.service: this is a unit, which the host needs to be serviced"},
		{systemd.RestartJob, "tridentd.service", true, "restart tridentd.service: "},
		{systemd.StopJob, "tridentd.socket", true, "tridentd.socket"},
		{systemd.StopJob, "dbus.service", true, "dbus.service"},
		{systemd.StopJob, "messagebus.service", true, "stop dbus.service"},
		{systemd.StopJob, "init.scope", true, "init.scope"},
		{systemd.StopJob, "-.slice", true, "-.slice"},
		{systemd.StopJob, "trident-gateway.service", true, "trident-gateway.service"},
		{systemd.StopJob, "systemd-journald-dev-log.socket", true, "systemd-journald-dev-log.socket"},
		{systemd.StopJob, "sysinit.target", true, "stop sysinit.target: this would stop tridentd.service, which"},
		{systemd.RestartJob, "sysinit.target", true, "restart sysinit.target: this would stop tridentd.service, which"},
		{systemd.StopJob, "sshd.service", false, "through which people reach the host"},
		{systemd.StopJob, "sshd.service", true, ""},
		{systemd.RestartJob, "ssh.service", true, ""},
		{systemd.StartJob, "tridentd.socket", false, ""},
		{systemd.StopJob, "loop-a.service", false, ""},
	} {
		s, jobs := host(t, definitions...)
		err := s.Run(t.Context(), c.job, c.unit, c.mayDisconnect)
		if c.says == "" {
			if err != nil || len(jobs()) != 1 {
				t.Errorf("%s %s: %v", c.job, c.unit, err)
			}
			continue
		}
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), c.says) || errkind.Hint(err) == "" {
			t.Errorf("%s %s: %v (%s), want %q", c.job, c.unit, err, errkind.Hint(err), c.says)
		}
		if got := jobs(); len(got) > 0 {
			t.Errorf("%s %s: refused, and ran %q", c.job, c.unit, got)
		}
	}
}

// reboot.target starts shutdown.target, with which every unit conflicts.
func TestAStartThatStopsTridentByAConflictIsRefused(t *testing.T) {
	s, jobs := host(t, systemdtest.Definition{Name: "tridentd.service"}, systemdtest.Definition{Name: "old.service"})
	fake := s.Jobs.(*systemdtest.Fake)
	for _, d := range []systemdtest.Definition{
		{Name: "reboot.target", Requires: []string{"shutdown.target", "missing.target"}},
		{Name: "shutdown.target", Conflicts: []string{"absent.service", "old.service", "tridentd.service"}},
		{Name: "new.service", Conflicts: []string{"old.service", "dbus-broker.service"}},
		{Name: "dbus-broker.service"}, // the host has it, and does not run it
	} {
		fake.Define(d)
	}
	if err := s.Run(t.Context(), systemd.StartJob, "reboot.target", true); errkind.Of(err) != errkind.Precondition ||
		!strings.Contains(err.Error(), "start reboot.target: this would stop tridentd.service") || !strings.Contains(errkind.Hint(err), "trident host reboot") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	if got := jobs(); len(got) > 0 {
		t.Errorf("ran %q", got)
	}
	if err := s.Run(t.Context(), systemd.StartJob, "new.service", false); err != nil {
		t.Errorf("a conflict with units that may stop: %v", err)
	}
}

func TestANameThatIsNotAUnitIsRefused(t *testing.T) {
	s, jobs := host(t)
	for _, name := range []string{"", "web", ".service", "a b.service", "../x.service", "a.service\n", "a.unknown", strings.Repeat("x", 300) + ".service", "-H x.service"} {
		for _, run := range []func() error{
			func() error { return s.Run(t.Context(), systemd.StopJob, name, true) },
			func() error { _, _, err := s.Show(t.Context(), name); return err },
		} {
			if err := run(); errkind.Of(err) != errkind.Invalid {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if err := s.Run(t.Context(), systemd.StopJob, "absent.service", false); errkind.Of(err) != errkind.NotFound {
		t.Errorf("a unit that does not exist: %v", err)
	}
	if got := jobs(); len(got) > 0 {
		t.Errorf("ran %q", got)
	}
}

func TestUnitsAreListedAndShown(t *testing.T) {
	s, _ := host(t, systemdtest.Definition{Name: "b.service"}, systemdtest.Definition{Name: "a.service"}, systemdtest.Definition{Name: "tridentd.service"})
	list, omitted, err := s.List(t.Context(), []string{"?.service"}, []string{"active"})
	if err != nil || omitted != 0 || len(list) != 2 || list[0].Name != "a.service" {
		t.Errorf("%v, %d, %v", list, omitted, err)
	}
	for _, bad := range [][]string{{""}, {"a\nb"}, make([]string, 65)} {
		if _, _, err := s.List(t.Context(), bad, nil); errkind.Of(err) != errkind.Invalid {
			t.Errorf("patterns %.20q: %v", bad, err)
		}
		if _, _, err := s.List(t.Context(), nil, bad); errkind.Of(err) != errkind.Invalid {
			t.Errorf("states %.20q: %v", bad, err)
		}
	}
	if d, protected, err := s.Show(t.Context(), "a.service"); err != nil || protected != nil || d.Name != "a.service" || d.State.MainPID == 0 {
		t.Errorf("%+v, %v, %v", d, protected, err)
	}
	if _, protected, err := s.Show(t.Context(), "tridentd.service"); err != nil || errkind.Of(protected) != errkind.Precondition {
		t.Errorf("%v, %v", protected, err)
	}
}

func TestALongListIsCut(t *testing.T) {
	s := &Service{Jobs: manyUnits{}}
	list, omitted, err := s.List(t.Context(), nil, nil)
	if err != nil || len(list) != maxListed || omitted != 4 {
		t.Errorf("%d, %d, %v", len(list), omitted, err)
	}
}

type manyUnits struct{ systemd.Jobs }

func (manyUnits) List(context.Context, []string, []string) ([]systemd.Listed, error) {
	return make([]systemd.Listed, maxListed+4), nil
}

// Clients repeat a call that is Unavailable; without systemd that would be in vain.
func TestAHostWithoutSystemdIsRefusedForGood(t *testing.T) {
	s := &Service{Jobs: systemd.Connect(t.Context(), t.TempDir()+"/none")}
	_, _, listed := s.List(t.Context(), nil, nil)
	_, _, shown := s.Show(t.Context(), "a.service")
	for doing, err := range map[string]error{"list": listed, "show": shown, "run": s.Run(t.Context(), systemd.StopJob, "a.service", false)} {
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "connect to systemd") || !strings.Contains(errkind.Hint(err), "needs systemd") {
			t.Errorf("%s: %v (%s)", doing, err, errkind.Hint(err))
		}
	}
}
