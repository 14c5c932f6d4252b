package settings

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/when"
)

// memory is a datastore in memory.
type memory struct {
	values map[string]json.RawMessage
	fault  error
}

func (m *memory) Policy(context.Context) (map[string]json.RawMessage, error) {
	return maps.Clone(m.values), m.fault
}

func (m *memory) SetPolicy(_ context.Context, values map[string]json.RawMessage, reset []string) error {
	if m.fault != nil {
		return m.fault
	}
	for _, name := range reset {
		delete(m.values, name)
	}
	maps.Copy(m.values, values)
	return nil
}

func settingsOf(t *testing.T, conf string) (Settings, *memory) {
	t.Helper()
	root, store := t.TempDir(), &memory{values: map[string]json.RawMessage{}}
	if err := os.MkdirAll(filepath.Join(root, "etc/trident"), 0o755); err != nil {
		t.Fatal(err)
	}
	if conf != "" {
		if err := os.WriteFile(filepath.Join(root, "etc/trident/update.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Settings{Root: root, Store: store}, store
}

const conf = "feed: https://example.org/feed\nauto: stage\nhold: forever\npin: 2.0.0\nmaxBytes: 100M\n"

func TestNamesAreTheFieldsOfThePolicy(t *testing.T) {
	t.Parallel()
	var want []string
	for f := range reflect.TypeFor[updates.Policy]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, name)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, Names()); diff != "" {
		t.Error(diff)
	}
}

func TestStoredSettingsTakePrecedenceUntilTheyAreReset(t *testing.T) {
	t.Parallel()
	s, store := settingsOf(t, conf)
	store.values["of a later release"] = json.RawMessage("7")
	all := updates.Policy{
		Feed: "https://example.com/other", Channel: "beta", Auto: updates.AutoActivate, Hold: &updates.Hold{Until: time.Unix(4e9, 0).UTC(), Reason: "holidays"},
		Pin: "3.0.0", Window: &when.Window{Days: []time.Weekday{time.Monday}, Begin: 120, End: 300, TimeZone: "UTC"}, MaxBytes: 7, Grace: time.Hour, AllowReadOnlyUsr: true,
	}
	baked := updates.Policy{Feed: "https://example.org/feed", Auto: updates.AutoStage, Hold: &updates.Hold{}, Pin: "2.0.0", MaxBytes: 100 << 20}
	for _, step := range []struct {
		p          updates.Policy
		set, reset []string
		want       updates.Policy
	}{
		{updates.Policy{Pin: "not looked at"}, nil, nil, baked},
		{all, Names(), nil, all},
		{updates.Policy{}, []string{"hold", "pin", "maxBytes", "auto", "allowReadOnlyUsr"}, nil, updates.Policy{Feed: all.Feed, Channel: "beta", Window: all.Window, Grace: time.Hour}},
		{updates.Policy{Pin: "4.0.0"}, []string{"pin"}, []string{"hold", "feed", "grace", "window", "channel", "auto", "maxBytes", "allowReadOnlyUsr"},
			updates.Policy{Feed: baked.Feed, Auto: baked.Auto, Hold: baked.Hold, Pin: "4.0.0", MaxBytes: baked.MaxBytes}},
		{updates.Policy{}, nil, Names(), baked},
	} {
		got, err := s.Change(t.Context(), step.p, step.set, step.reset)
		if diff := cmp.Diff(step.want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		view, err := s.Read(t.Context())
		if diff := cmp.Diff(step.want, view.Policy); diff != "" || err != nil {
			t.Error(err, diff)
		}
		if diff := cmp.Diff([]string{"auto", "feed", "hold", "maxBytes", "pin"}, view.Configured); diff != "" {
			t.Error(diff)
		}
	}
	view, err := s.Read(t.Context())
	if err != nil || len(view.Stored) != 0 || store.values["of a later release"] == nil {
		t.Errorf("%v %v, %v", view.Stored, store.values, err)
	}
}

func TestAChangeThatIsRefusedStoresNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf       string
		p          updates.Policy
		set, reset []string
		want       string // in the error
	}{
		"an unknown name":       {"", updates.Policy{}, []string{"colour"}, nil, `"colour" is not a setting`},
		"an unknown reset":      {"", updates.Policy{}, nil, []string{"max_bytes"}, `"max_bytes" is not a setting`},
		"a name in both":        {"", updates.Policy{}, []string{"pin"}, []string{"pin"}, "pin is named twice"},
		"a bad value":           {"", updates.Policy{Pin: "new"}, []string{"pin"}, nil, "pin"},
		"one bad value of two":  {"", updates.Policy{Auto: "always", Pin: "2.0.0"}, []string{"pin", "auto"}, nil, "auto"},
		"a faulty update.conf":  {"colour: red\n", updates.Policy{Pin: "2.0.0"}, []string{"pin"}, nil, "/etc/trident/update.conf"},
		"a hold that is over":   {"", updates.Policy{Hold: &updates.Hold{Until: time.Unix(1e9, 0)}}, []string{"hold"}, nil, "until is 2001-09-09T01:46:40Z, which has passed"},
		"a window without hour": {"", updates.Policy{Window: &when.Window{Begin: -1}}, []string{"window"}, nil, "window"},
	} {
		s, store := settingsOf(t, c.conf)
		_, err := s.Change(t.Context(), c.p, c.set, c.reset)
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), c.want) || len(store.values) != 0 {
			t.Errorf("%s: %v, stored %v", name, err, store.values)
		}
	}
}

func TestAStoredSettingThatIsDamagedIsNamedWithTheWayOut(t *testing.T) {
	t.Parallel()
	s, store := settingsOf(t, "")
	store.values["hold"] = json.RawMessage("7")
	if _, err := s.Policy(t.Context()); errkind.Of(err) != errkind.Corrupt || !strings.Contains(errkind.Hint(err), "policy reset hold") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	if got, err := s.Change(t.Context(), updates.Policy{}, nil, []string{"hold"}); err != nil || got.Hold != nil {
		t.Errorf("%+v, %v", got, err)
	}
	store.fault = errors.New("the disk is gone")
	if _, err := s.Policy(t.Context()); !errors.Is(err, store.fault) {
		t.Errorf("%v", err)
	}
}
