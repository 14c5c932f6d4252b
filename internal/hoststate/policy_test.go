package hoststate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

type settings = map[string]json.RawMessage

func TestThePolicyIsKeptUntilItIsReset(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d.sqlite")
	s := open(t, path)
	for _, step := range []struct {
		set   settings
		reset []string
		want  settings
	}{
		{nil, nil, settings{}},
		{settings{"pin": json.RawMessage(`"2.0.0"`), "hold": json.RawMessage(`{"until":null}`)}, nil,
			settings{"pin": json.RawMessage(`"2.0.0"`), "hold": json.RawMessage(`{"until":null}`)}},
		{settings{"pin": json.RawMessage(`"3.0.0"`)}, []string{"hold", "pin", "unknown"}, settings{"pin": json.RawMessage(`"3.0.0"`)}},
		{nil, []string{"pin"}, settings{}},
	} {
		if err := s.SetPolicy(t.Context(), step.set, step.reset); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = open(t, path)
		got, err := s.Policy(t.Context())
		if diff := cmp.Diff(step.want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	}
}

func TestAPolicyThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "d.sqlite"))
	before := settings{"pin": json.RawMessage(`"2.0.0"`)}
	if err := s.SetPolicy(t.Context(), before, nil); err != nil {
		t.Fatal(err)
	}
	many := settings{}
	for i := range maxSettings + 1 {
		many[fmt.Sprint(i)] = json.RawMessage("1")
	}
	for name, bad := range map[string]settings{
		"not JSON":      {"auto": json.RawMessage("check")},
		"empty":         {"auto": nil},
		"without name":  {"": json.RawMessage("1")},
		"a large value": {"auto": json.RawMessage(`"` + strings.Repeat("x", maxSetting) + `"`)},
		"many settings": many,
	} {
		if err := s.SetPolicy(t.Context(), bad, []string{"pin"}); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: err = %v", name, err)
		}
		got, err := s.Policy(t.Context())
		if diff := cmp.Diff(before, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestADamagedSettingIsNamed(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "d.sqlite"))
	if _, err := s.db.Exec(`INSERT INTO trident_policy VALUES ('pin', '"2.0')`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Policy(t.Context()); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), `"pin"`) {
		t.Errorf("err = %v", err)
	}
}
