package setup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func newUnits() *systemdtest.Fake {
	u := &systemdtest.Fake{}
	u.Define(systemdtest.Definition{Name: Unit})
	return u
}

func TestTheGatewayIsStartedNowAndAtEachBoot(t *testing.T) {
	u := newUnits()
	for range 2 {
		if err := Start(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		got, err := u.Unit(t.Context(), Unit)
		if err != nil || got.Active != "active" || !u.Enabled(Unit) {
			t.Errorf("%+v, %v, enabled: %v", got, err, u.Enabled(Unit))
		}
	}
	err := Start(t.Context(), &systemdtest.Fake{})
	if errkind.Of(err) != errkind.Precondition || errkind.Hint(err) != "install the package trident-gateway" {
		t.Errorf("%v, %q", err, errkind.Hint(err))
	}
}

func TestRemoveLeavesNothingButTheAuditLogIfAsked(t *testing.T) {
	root := t.TempDir()
	others := []string{"etc/trident/update.conf", "var/log/other/x"}
	ours := []string{config.DefaultFile[1:], "etc/trident/gateway/clients/admin.key", "run/trident-gateway/load"}
	log := "var/log/trident-gateway/audit.log"
	make_ := func() {
		for _, name := range slices.Concat(others, ours, []string{log}) {
			path := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(names []string, want bool) {
		t.Helper()
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(root, name)); (err == nil) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, keepAudit := range []bool{true, false} {
		make_()
		u := newUnits()
		if err := Start(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		removed, err := Remove(t.Context(), root, u, keepAudit)
		if err != nil || len(removed) == 0 {
			t.Fatal(removed, err)
		}
		check(others, true)
		check(ours, false)
		check([]string{log, "var/log/trident-gateway"}, keepAudit)
		if got, err := u.Unit(t.Context(), Unit); err == nil && got.Active == "active" || u.Enabled(Unit) {
			t.Errorf("%+v, enabled: %v", got, u.Enabled(Unit))
		}
	}
	if removed, err := Remove(t.Context(), root, newUnits(), false); err != nil || len(removed) != 0 {
		t.Errorf("again: %q, %v", removed, err)
	}
}

// While the gateway cannot be stopped its files stay: it would serve on without them.
func TestRemoveKeepsTheFilesOfAGatewayThatRuns(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, config.DefaultFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	u := newUnits()
	u.Hook = func(_ context.Context, c systemdtest.Call) error {
		if c.Method == string(systemd.StopJob) {
			return errkind.Errorf(errkind.Timeout, "it does not stop")
		}
		return nil
	}
	if _, err := Remove(t.Context(), root, u, false); errkind.Of(err) != errkind.Timeout {
		t.Error(err)
	}
	if _, err := os.Lstat(file); err != nil {
		t.Error(err)
	}
}

func TestAPersonGetsRightsInNewSettingsAlone(t *testing.T) {
	root := t.TempDir()
	var out bytes.Buffer
	o := Options{Root: root, Names: []string{"h"}, Listen: "127.0.0.1:7443", Person: "admin", GID: os.Getegid(), Out: &out}
	if err := Run(o); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, config.DefaultFile))
	if err != nil || !strings.Contains(string(data), `"passphrase:admin"`) || strings.Contains(out.String(), "systemctl") {
		t.Errorf("%s, %v\n%s", data, err, &out)
	}
	other := t.TempDir()
	o.Root, o.Person = other, ""
	if err := Run(o); err != nil {
		t.Fatal(err)
	}
	o.Person = "admin"
	if err := Run(o); err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(filepath.Join(other, config.DefaultFile))
	if err != nil || strings.Contains(string(data), "passphrase:") {
		t.Errorf("%s, %v", data, err)
	}
}
