package hoststate

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// states are upstream's (reference, 4.10).
func states() []string {
	return strings.Fields(`not-provisioned clean-install-staged clean-install-finalized ab-update-staged ab-update-finalized
		ab-update-health-check-failed runtime-update-staged manual-rollback-ab-staged manual-rollback-ab-finalized
		manual-rollback-runtime-staged provisioned`)
}

func TestEachServicingStateIsOnePhase(t *testing.T) {
	t.Parallel()
	seen := map[Phase]bool{}
	for _, state := range states() {
		p, err := PhaseOf(state)
		if err != nil || p.State() != state || seen[p] {
			t.Errorf("%s is %v, %v", state, p, err)
		}
		seen[p] = true
	}
	if len(seen) != 11 {
		t.Errorf("%d phases", len(seen))
	}
	for _, state := range []string{"", "runtime-update-finalized", "Provisioned", "staged"} {
		if p, err := PhaseOf(state); err == nil {
			t.Errorf("%q is %v", state, p)
		}
	}
}

func TestAHostWithoutRowsIsFresh(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "d"))
	if st := mustStatus(t, s); !st.Equal(Status{Phase: Fresh{}}) || st.Row != 0 {
		t.Errorf("%+v", st)
	}
	if got := images(t, s); got != nil {
		t.Errorf("links %v", got)
	}
}

func TestRecordingTwiceIsRecordingOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	s := open(t, path)
	long := strings.Repeat("a long line of a script ", 20)
	for i, state := range states() {
		p, err := PhaseOf(state)
		if err != nil {
			t.Fatal(err)
		}
		st := Status{
			Phase: p, Spec: "scripts:\n  - content: |\n      #!/bin/sh\n      echo '" + long + "'\n  - {name: \"é: \", on: yes}\n", SpecOld: "{}",
			LastError: NewLastError(errkind.WithName(errkind.Errorf(errkind.Timeout, "check\nit"), "SystemdCheckTimeout")),
			DiskUUIDs: map[string]string{"b": "1", "a": "no"}, InstallIndex: 2, TridentVersion: "1.10",
		}
		for range 2 {
			mustRecord(t, s, st)
			s.Close()
			s = open(t, path)
		}
		got := mustStatus(t, s)
		if got.Row != int64(i)+1 || !got.Equal(st) {
			t.Errorf("row %d: %+v", got.Row, got)
		}
		if got.LastError.Name != "systemd-check-timeout" || got.LastError.Category == "" || got.LastError.Message != "check\nit" ||
			!strings.HasPrefix(got.LastError.Location, "internal/hoststate/status_test.go:") {
			t.Errorf("%+v", got.LastError)
		}
		mustRecord(t, s, got)
		if n := count(t, s, "hoststatus"); n != int64(i)+1 {
			t.Errorf("%d rows after %s", n, state)
		}
	}
}

func TestAnInvalidStatusIsNotRecorded(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "d"))
	for name, st := range map[string]Status{
		"no phase": {}, "a phase of nobody": {Phase: Staged("ab-update-finalized")}, "a volume of nobody": {Phase: Fresh{}, ABActiveVolume: "c"},
		"a spec that is no mapping": {Phase: Fresh{}, Spec: "- a"}, "a spec that is no YAML": {Phase: Fresh{}, Spec: "{"},
		"an index below 0": {Phase: Fresh{}, InstallIndex: -1}, "an alias": {Phase: Fresh{}, Spec: "a: &x 1\nb: *x"},
	} {
		if err := s.Record(t.Context(), st); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if err := s.Record(t.Context(), Status{Phase: Fresh{}, Spec: "a: " + strings.Repeat("x", maxStatus)}); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("too large: err = %v", err)
	}
	if n := count(t, s, "hoststatus"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestALastErrorThatIsChangedIsWrittenAnew(t *testing.T) {
	t.Parallel()
	st, err := ParseStatus([]byte("spec: {}\nservicingState: provisioned\nlastError:\n  message: old\n  error: !x {y: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := st.YAML()
	st.LastError.Message = "new"
	after, err := st.YAML()
	if err != nil || !strings.Contains(string(before), "!x {y: 1}") || !strings.Contains(string(after), "message: new\n  error: x\n") {
		t.Errorf("%v\n%s\n%s", err, before, after)
	}
	if NewLastError(nil) != nil {
		t.Error("no error became one")
	}
	if got := NewLastError(errors.New("x")); got.Message != "x" || got.Category != "internal" {
		t.Errorf("%+v", got)
	}
}

func FuzzWhatCanBeReadCanBeWrittenAndReadAgain(f *testing.F) {
	for _, row := range installedAndUpdated() {
		f.Add(row)
	}
	f.Add("spec: {a: [1, ~, 'x', !t y]}\nservicingState: provisioned\nlastError: {error: !x {y: 1}}\nmore: |\n  text\n")
	f.Add("spec: {}\n# remark\nservicingState: provisioned # remark\ntridentVersion: 0x10\ninstallIndex: 0x7\n")
	f.Fuzz(func(t *testing.T, text string) {
		st, err := ParseStatus([]byte(text))
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		out, err := st.YAML()
		if err != nil {
			t.Fatalf("write: %v", err)
		}
		again, err := ParseStatus(out)
		if err != nil {
			t.Fatalf("read again: %v\n%s", err, out)
		}
		twice, err := again.YAML()
		if diff := cmp.Diff(string(out), string(twice)); err != nil || diff != "" {
			t.Fatalf("written twice: %v\n%s", err, diff)
		}
	})
}

// Upstream's tests take the name of a reboot check for a text only where it has no
// values, and then want another one.
func TestTheDevicesOfARebootCheckAreValuesOfItsName(t *testing.T) {
	e := LastError{Message: "m", Name: "ab-update-reboot-check", Category: "servicing", RootDevice: "/dev/a", ExpectedDevice: "/dev/b"}
	text, err := yaml.Marshal(e.node())
	const want = "message: m\nerror: !ab-update-reboot-check\n"
	if err != nil || !strings.HasPrefix(string(text), want) || !strings.Contains(string(text), "root_device_path: /dev/a") ||
		!strings.Contains(string(text), "expected_device_path: /dev/b") {
		t.Errorf("%s, %v", text, err)
	}
	back := lastErrorOf(e.node())
	if back.raw = nil; *back != e {
		t.Errorf("read again: %+v", back)
	}
}
