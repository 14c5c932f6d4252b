package systemdtest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/systemd"
)

func TestTheFakePassesTheSuite(t *testing.T) {
	Suite(t, func(t *testing.T) Host {
		f := &Fake{}
		return Host{f, func(_ testing.TB, d Definition) { f.Define(d) }}
	})
}

func TestAHookSeesEveryCallBeforeItHasAnEffect(t *testing.T) {
	power := errors.New("power cut")
	var before systemd.Unit
	f := &Fake{}
	f.Define(Definition{Name: "a.service"})
	f.Hook = func(ctx context.Context, c Call) error {
		switch c.Method {
		case "Restart":
			before, _ = f.Unit(ctx, c.Unit)
		case "Stop":
			return power
		}
		return nil
	}
	if err := f.Restart(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), "a.service"); !errors.Is(err, power) {
		t.Errorf("stop: %v", err)
	}
	after, err := f.Unit(t.Context(), "a.service")
	if err != nil || before.Active != "inactive" || after.Active != "active" {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	want := []Call{{Method: "Restart", Unit: "a.service"}, {Method: "Unit", Unit: "a.service"}, {Method: "Stop", Unit: "a.service"}, {Method: "Unit", Unit: "a.service"}}
	if diff := cmp.Diff(want, f.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestSetSimulatesACrash(t *testing.T) {
	f := &Fake{}
	crashed := systemd.Unit{Active: "activating", Sub: "auto-restart", Result: "exit-code", Restarts: 3}
	f.Set("a.service", crashed)
	if u, err := f.Unit(t.Context(), "a.service"); err != nil || u != crashed {
		t.Errorf("%+v, %v", u, err)
	}
}
