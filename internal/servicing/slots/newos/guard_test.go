package newos

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func TestTheGuardGoesFromUnderConfextsThatAreMerged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		closed bool
		spec   string
		want   []string
	}{
		"no confexts":            {false, "os: {hostname: a}\n", nil},
		"merged":                 {true, "os: {hostname: a}\n", []string{"Stop", "ReloadOrRestart"}},
		"it was cut short there": {false, "os: {confexts: [{url: 'file:///a.raw', sha384: " + strings.Repeat("a", 96) + "}]}\n", []string{"ReloadOrRestart"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			store, err := hoststate.Open(t.Context(), filepath.Join(root, "datastore.sqlite"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := store.Record(t.Context(), hoststate.Status{Phase: hoststate.Settled{}, Spec: c.spec}); err != nil {
				t.Fatal(err)
			}
			fake := &systemdtest.Fake{}
			fake.Define(systemdtest.Definition{Name: guardTimer, Oneshot: true})
			fake.Define(systemdtest.Definition{Name: "systemd-confext.service", Oneshot: true, Reloads: true})
			merged := func(string) (bool, error) { return c.closed, nil }
			s := (&OS{Host: change.New(change.Host{Root: root, Store: store, Systemd: fake, EtcIsReadOnly: merged})})
			fake.Hook = func(_ context.Context, call systemdtest.Call) error {
				if call.Unit == "systemd-confext.service" {
					_, err := os.Lstat(filepath.Join(root, unitDir, guardTimer))
					if gone := errors.Is(err, fs.ErrNotExist); gone != (call.Method == "ReloadOrRestart") {
						t.Errorf("%s, and the guard is gone: %v", call.Method, gone)
					}
				}
				return nil
			}
			hosttest.Write(t, filepath.Join(root, unitDir, guardTimer), "[Timer]\n")
			if err := s.RemoveGuard(t.Context()); err != nil {
				t.Error(err)
			}
			var got []string
			for _, call := range fake.Calls() {
				if call.Unit == "systemd-confext.service" {
					got = append(got, call.Method)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("confexts: %v, want %v", got, c.want)
			}
		})
	}
}
