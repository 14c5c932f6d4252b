package hoststate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// history makes rows of words such as "provisioned", "provisioned/b" (the active
// volume, a without), "provisioned/b/0.20.0" (the version), and
// "provisioned/a/error", and "provisioned/=3" (the spec). Rows and their specs are numbered from 0.
func history(t *testing.T, text string) (rows []row) {
	t.Helper()
	short := strings.NewReplacer("P", "provisioned", "R+", "runtime-update-staged", "AB+", "ab-update-staged", "AB!", "ab-update-finalized",
		"ABx", "ab-update-health-check-failed", "BACKAB+", "manual-rollback-ab-staged", "BACKAB!", "manual-rollback-ab-finalized",
		"BACKR+", "manual-rollback-runtime-staged", "I+", "clean-install-staged", "I!", "clean-install-finalized", "NEW", "not-provisioned")
	for i, word := range strings.Fields(text) {
		r := row{Status: Status{Row: int64(i), Spec: fmt.Sprint(i), ABActiveVolume: VolumeA, TridentVersion: "0.27.0"}}
		for n, part := range strings.Split(word, "/") {
			switch {
			case n == 0 && part == "?":
				r.err = errors.New("unreadable")
			case n == 0:
				p, err := PhaseOf(short.Replace(part))
				if err != nil {
					t.Fatal(err)
				}
				r.Phase = p
			case part[:min(1, len(part))] == "=":
				r.Spec = part[1:]
			case part == "b":
				r.ABActiveVolume = VolumeB
			case part == "none":
				r.ABActiveVolume = ""
			case part == "error":
				r.LastError = &LastError{}
			case part == "mos":
				r.ManagementOS = true
			case part == "ours":
				r.isOurs, r.TridentVersion = true, "0.1.0"
			default:
				r.TridentVersion = strings.TrimPrefix(part, "v")
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func TestTheChainIsWhatTheHistoryLeaves(t *testing.T) {
	t.Parallel()
	const installed = "NEW/none I+/none I!/none P " // 3
	for _, c := range []struct{ name, history, want string }{
		{"nothing", "", ""},
		{"an install", installed, ""},
		{"a runtime update", installed + "R+ P", "runtime 3"},
		{"two", installed + "R+ P R+ P", "runtime 5, runtime 3"},
		{"an A/B update", installed + "AB+ AB! P/b", "ab 3"},
		{"an A/B update after a runtime update", installed + "R+ P AB+ AB! P/b", "ab 5, runtime 3"},
		{"runtime updates on both sides", installed + "R+ P AB+ AB! P/b R+/b P/b", "runtime 8/b, ab 5, runtime 3"},
		{"a second A/B update writes over the first volume", installed + "AB+ AB! P/b AB+/b AB!/b P", "ab 6/b"},
		{"the second is only staged", installed + "AB+ AB! P/b R+/b P/b AB+/b", ""},
		{"it was staged, then given up for a runtime update", installed + "AB+ AB! P/b AB+/b R+/b P/b", "runtime 6/b"},
		{"servicing goes on", installed + "R+ P R+", ""},
		{"a rollback goes on", installed + "R+ P BACKR+", ""},
		{"a runtime rollback", installed + "R+ P R+ P BACKR+ P", "runtime 3"},
		{"all of them", installed + "R+ P R+ P BACKR+ P BACKR+ P", ""},
		{"an A/B rollback", installed + "AB+ AB! P/b BACKAB+/b BACKAB!/b P", ""},
		{"an A/B rollback over runtime updates", installed + "R+ P AB+ AB! P/b R+/b P/b BACKAB+/b BACKAB!/b P", "runtime 3"},
		{"a rollback that was staged, then given up", installed + "R+ P BACKR+ R+ P", "runtime 5, runtime 3"},
		{"an update that was staged, then unstaged", installed + "R+ P R+ P/=5", "runtime 3"},
		{"a rollback that was staged, then unstaged", installed + "R+ P BACKR+ P/=5", "runtime 3"},
		{"a rollback that failed", installed + "R+ P BACKR+ P/error", "runtime 3"},
		{"an A/B update that was not healthy", installed + "R+ P AB+ AB! ABx P/error", "runtime 3"},
		{"one that upstream forgot the error of", installed + "R+ P AB+ AB! ABx P", "runtime 3"},
		{"an A/B update that did not boot", installed + "AB+ AB! P/error", ""},
		{"a runtime update that failed, then one that did not", installed + "R+ P/error R+ P", "runtime 5"},
		{"said twice", "P P P R+ P P", "runtime 2"},
		{"offline-initialize, then an update", "P/a/v0.27.0 AB+ AB! P/b", "ab 0"},
		{"old before", installed + "R+ P/v0.20.9 R+ P", ""},
		{"old after", installed + "R+ P R+ P/v0.20.9", "runtime 3"},
		{"just new enough", "P/v0.21.0 R+ P/v0.21.0", "runtime 0"},
		{"not quite new enough", "P/v0.21.0-rc.1 R+ P/v0.21.0", ""},
		{"a package's version", "P/v0.22.0-1.azl3 R+ P", "runtime 0"},
		{"no version", "P/v R+ P", ""},
		{"a version that is none", "P/vfoo R+ P", ""},
		{"our own version is new enough", "P/ours R+/ours P/ours", "runtime 0"},
		{"of upstream's, then ours", "P R+/ours P/ours", "runtime 0"},
		{"a host without volumes", "P/none R+/none P/none R+/none P/none", "runtime 2/none, runtime 0/none"},
		{"installed again", installed + "R+ P " + installed + "R+ P", "runtime 9"},
		{"a row that cannot be read", installed + "R+ P ? P R+ P", "runtime 7"},
		{"nothing after a row that cannot be read", installed + "R+ P ?", ""},
		{"the installer's row", "P/mos R+/mos P/mos", ""},
	} {
		var got []string
		for _, l := range chainOf(slices.Values(history(t, c.history))) {
			volume := map[Volume]string{VolumeA: "", VolumeB: "/b", "": "/none"}[l.ABActiveVolume]
			got = append(got, fmt.Sprintf("%s %s%s", l.Kind, l.Spec, volume))
			if fmt.Sprint(l.row) != l.Spec {
				t.Errorf("%s: link %+v", c.name, l)
			}
		}
		if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// Pruning keeps the rows from the last link on.
func TestTheChainNeedsNoRowsBeforeItsLastLink(t *testing.T) {
	t.Parallel()
	steps := []string{
		"R+/%[1]s P/%[1]s", "AB+/%[1]s AB!/%[1]s P/%[2]s", "BACKR+/%[1]s P/%[1]s", "BACKAB+/%[1]s BACKAB!/%[1]s P/%[2]s", "AB+/%[1]s P/%[1]s/error",
	}
	for n := range 5 * 5 * 5 * 5 * 5 { // each way to do five things after two
		active, other, text := "a", "b", "P R+ P R+ P"
		for i, m := 0, n; i < 5; i, m = i+1, m/5 {
			text += " " + fmt.Sprintf(steps[m%5], active, other)
			if strings.HasSuffix(steps[m%5], "%[2]s") {
				active, other = other, active
			}
		}
		rows := history(t, strings.ReplaceAll(text, "/a", ""))
		all := chainOf(slices.Values(rows))
		if len(all) == 0 {
			continue
		}
		cut := chainOf(slices.Values(rows[all[len(all)-1].row:]))
		if diff := cmp.Diff(all, cut, cmp.AllowUnexported(Link{})); diff != "" {
			t.Fatalf("%s: %s", text, diff)
		}
		if len(slices.DeleteFunc(slices.Clone(all), func(l Link) bool { return !isAB(l) })) > 1 {
			t.Fatalf("%s: more than one A/B hop: %v", text, all)
		}
	}
}
