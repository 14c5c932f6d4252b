package hoststate

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

// upstreamTable is upstream's, with the word that is misspelt in it.
const upstreamTable = `CREATE TABLE IF NOT EXISTS hoststatus (id INTEGER PRIMARY KEY AUTOINCREMENT, ` +
	`timestamp DATETIME DEFALUT CURRENT_TIMESTAMP, contents TEXT NOT NULL)`

// upstreamFile makes a datastore as upstream would, with the rows given.
func upstreamFile(t *testing.T, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "datastore.sqlite")
	db := raw(t, path)
	if _, err := db.Exec(upstreamTable); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if _, err := tx.Exec(`INSERT INTO hoststatus (contents) VALUES (?)`, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// upstreamRow is a row as upstream writes it: two spaces, dashes not indented,
// what is empty left out.
func upstreamRow(state, volume, image string) string {
	row := `spec:
  image:
    url: http://example.com/` + image + `.cosi
    sha384: ignored
  os:
    sysexts:
    - url: http://example.com/a.raw
      sha384: '00'
servicingState: ` + state + `
partitionPaths:
  esp: /dev/disk/by-partuuid/1
  root-a: /dev/disk/by-partuuid/2
`
	if volume != "" {
		row += "abActiveVolume: volume-" + volume + "\n"
	}
	return row + `diskUuids:
  os: f4265b47-09cd-4d5e-aa92-684fb783f817
installIndex: 0
tridentVersion: 0.27.0
`
}

func installedAndUpdated() []string {
	return []string{
		upstreamRow("not-provisioned", "", "one"), upstreamRow("clean-install-staged", "", "one"),
		upstreamRow("clean-install-finalized", "", "one"), upstreamRow("provisioned", "a", "one"),
		upstreamRow("runtime-update-staged", "a", "two"), upstreamRow("provisioned", "a", "two"),
		upstreamRow("ab-update-staged", "a", "three"), upstreamRow("ab-update-finalized", "a", "three"),
		upstreamRow("provisioned", "b", "three"),
	}
}

func mustStatus(t *testing.T, s *Store) Status {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustRecord(t *testing.T, s *Store, statuses ...Status) {
	t.Helper()
	for _, st := range statuses {
		if err := s.Record(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
}

// images tells links by the image of their spec.
func images(t *testing.T, s *Store) (out []string) {
	t.Helper()
	links, err := s.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		_, name, _ := strings.Cut(l.Spec, "example.com/")
		name, _, _ = strings.Cut(name, ".cosi")
		out = append(out, string(l.Kind)+" "+name+" "+string(l.ABActiveVolume))
	}
	return out
}

func TestAHostOfUpstreamIsAdoptedWithItsRollbackChain(t *testing.T) {
	t.Parallel()
	path := upstreamFile(t, installedAndUpdated()...)
	s := open(t, path)
	st := mustStatus(t, s)
	if st.Phase != (Settled{}) || st.ABActiveVolume != VolumeB || st.TridentVersion != "0.27.0" || !st.Time.IsZero() || st.Row != 9 {
		t.Errorf("%+v", st)
	}
	if diff := cmp.Diff(map[string]string{"esp": "/dev/disk/by-partuuid/1", "root-a": "/dev/disk/by-partuuid/2"}, st.PartitionPaths); diff != "" {
		t.Error(diff)
	}
	if text, err := st.YAML(); err != nil || string(text) != upstreamRow("provisioned", "b", "three") {
		t.Errorf("written back it is not what upstream wrote: %v\n%s", err, text)
	}
	want := []string{"ab two volume-a", "runtime one volume-a"}
	if diff := cmp.Diff(want, images(t, s)); diff != "" {
		t.Error(diff)
	}

	links, err := s.Chain(t.Context())
	if err != nil || len(links) != 2 {
		t.Fatalf("%v, %v", links, err)
	}
	image := "spec:\n  image:\n    url: http://example.com/two.cosi\n"
	text, err := links[0].YAML()
	if !strings.HasPrefix(string(text), "kind: ab\n"+image) || !strings.HasSuffix(string(text), "\nabActiveVolume: volume-a\ninstallIndex: 0\n") {
		t.Errorf("the first link is %v:\n%s", err, text)
	}
	if text, err := (Link{Kind: RuntimeLink}).YAML(); string(text) != "kind: runtime\nspec: {}\nabActiveVolume: null\ninstallIndex: 0\n" {
		t.Errorf("a link to nothing is %v:\n%s", err, text)
	}

	// We go on from there, under a version of our own count.
	st.Phase, st.SpecOld, st.Spec, st.TridentVersion = StagedRuntimeUpdate, st.Spec, "image:\n  url: http://example.com/four.cosi\n", "0.2.0"
	mustRecord(t, s, st)
	st.Phase, st.SpecOld = Settled{}, ""
	mustRecord(t, s, st)
	if diff := cmp.Diff(append([]string{"runtime three volume-b"}, want...), images(t, s)); diff != "" {
		t.Error(diff)
	}
	if got := mustStatus(t, s); time.Since(got.Time).Abs() > time.Hour || !got.Equal(st) {
		t.Errorf("recorded at %v: %+v", got.Time, got)
	}
}

// What upstream would do with a file that we have written to.
func TestUpstreamReadsADatastoreOfTrident(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "datastore.sqlite")
	s := open(t, path)
	mustRecord(t, s, Status{
		Phase: Trying(TryingABUpdateFailed), Spec: "image:\n  url: http://x/\n", SpecOld: "os: {}", LastError: &LastError{Message: "m"},
		PartitionPaths: map[string]string{"esp": "/dev/sda1"}, ABActiveVolume: VolumeA, DiskUUIDs: map[string]string{"os": "1"},
		ManagementOS: true, TridentVersion: "1.0.0",
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	var contents string
	if err := db.QueryRow("SELECT contents FROM hoststatus ORDER BY id DESC LIMIT 1").Scan(&contents); err != nil {
		t.Fatal(err)
	}
	want := `spec:
  image:
    url: http://x/
specOld:
  os: {}
servicingState: ab-update-health-check-failed
lastError:
  message: m
  error: ''
  category: ''
  location: ''
  cause: null
partitionPaths:
  esp: /dev/sda1
abActiveVolume: volume-a
diskUuids:
  os: '1'
installIndex: 0
isManagementOs: true
tridentVersion: 1.0.0
`
	if diff := cmp.Diff(want, contents); diff != "" {
		t.Error(diff)
	}
	if _, err := db.Exec(upstreamTable); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO hoststatus (contents) VALUES (?)", upstreamRow("provisioned", "b", "one")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if st := mustStatus(t, open(t, path)); st.ABActiveVolume != VolumeB || st.Row != 2 {
		t.Errorf("%+v", st)
	}
}

func TestRowsOfEveryAgeCanBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		row   string
		check func(Status) bool
	}{
		"written by the installer": {"spec: {}\nservicingState: not-provisioned\ninstallIndex: 0\nisManagementOs: true\n",
			func(s Status) bool { return s.ManagementOS && s.Phase == Fresh{} && s.Spec == "" }},
		"before there were versions": {"abActiveVolume: volume-a\ninstallIndex: 3\nservicingState: provisioned\nspec:\n  osImage: {url: x}\n",
			func(s Status) bool {
				return s.TridentVersion == "" && s.InstallIndex == 3 && s.Spec == "osImage: {url: x}\n"
			}},
		"nulls for what is not there": {"spec: {}\nspecOld: null\nlastError: null\npartitionPaths: ~\nabActiveVolume:\nservicingState: provisioned\n",
			func(s Status) bool { return s.LastError == nil && s.ABActiveVolume == "" && s.PartitionPaths == nil }},
		"a version that is none": {"spec: {}\nservicingState: provisioned\ntridentVersion: 0.9\n",
			func(s Status) bool { return s.TridentVersion == "0.9" }},
		"an error with values in it": {"spec: {}\nservicingState: provisioned\nlastError:\n  message: no\n  error: !datastore\n    inner: open-datastore\n  category: servicing\n  location: a.rs:1\n  cause: |-\n    a\n    b\n",
			func(s Status) bool {
				e := s.LastError
				return e.Message == "no" && e.Name == "datastore" && e.Category == "servicing" && e.Location == "a.rs:1" && e.Cause == "a\nb"
			}},
		"an error as a mapping": {"spec: {}\nservicingState: provisioned\nlastError:\n  error: {command-failed: {binary: dd}}\n  cause: null\n",
			func(s Status) bool { return s.LastError.Name == "command-failed" && s.LastError.Cause == "" }},
		"an error as a text": {"spec: {}\nservicingState: provisioned\nlastError: it broke\n",
			func(s Status) bool { return s.LastError.Message == "it broke" }},
		"fields of another version": {"bootNext: AZLB\nspec: {}\nservicingState: provisioned\ninstallIndex: 0\nlater:\n- 1\n- !x y\n",
			func(s Status) bool { return len(s.unknownFields) == 4 }},
	} {
		s := open(t, upstreamFile(t, c.row))
		st, err := s.Status(t.Context())
		if err != nil || !c.check(st) {
			t.Errorf("%s: %v, %+v", name, err, st)
			continue
		}
		// Whatever has not changed is written back as it was found.
		st.ABActiveVolume = VolumeB
		mustRecord(t, s, st)
		if got := mustStatus(t, s); !got.Equal(st) || got.ABActiveVolume != VolumeB || got.Row != 2 {
			t.Errorf("%s: recorded %+v, read %+v", name, st, got)
		}
	}
}

func TestFieldsOfAnotherVersionStayThoughTheStatusIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := open(t, upstreamFile(t, "spec: {}\nservicingState: provisioned\nlater:\n- 1\n- !x y\n"))
	mustRecord(t, s, Status{Phase: Settled{}, Spec: "os: {}"})
	text, err := mustStatus(t, s).YAML()
	if err != nil || !strings.HasSuffix(string(text), "\nlater:\n- 1\n- !x y\n") {
		t.Errorf("%v:\n%s", err, text)
	}
}

func TestAnUnreadableNewestRowIsAnErrorWithThePreviousStatus(t *testing.T) {
	t.Parallel()
	good := upstreamRow("provisioned", "a", "one")
	for _, rubbish := range []string{
		"", "\x00\xff", "[]", "spec: {", "hello: world\n", "spec: {}\nservicingState: asleep\n", "spec: []\nservicingState: provisioned\n",
		"spec: {}\nservicingState: provisioned\ninstallIndex: many\n", "spec: &a {}\nspecOld: *a\nservicingState: provisioned\n",
		"spec: {}\nspec: {}\nservicingState: provisioned\n", "spec: {}\nservicingState: null\n", "spec: {}\nservicingState: provisioned\ndiskUuids: [1]\n",
		good + strings.Repeat("# and on it goes\n", 400_000), "spec: " + strings.Repeat("{a: ", 20_000), good + "---\n" + good,
	} {
		s := open(t, upstreamFile(t, good, rubbish, rubbish))
		_, err := s.Status(t.Context())
		bad, ok := errors.AsType[*ParseHostStatusError](err)
		if !ok || errkind.Of(err) != errkind.Corrupt || errkind.Variant(err) != "ParseHostStatus" || errkind.Hint(err) == "" {
			t.Errorf("%.40q: err = %v", rubbish, err)
			continue
		}
		if len(err.Error()) > 300 {
			t.Errorf("%.40q: the error has %d bytes", rubbish, len(err.Error()))
		}
		if bad.Row != 3 || bad.Previous == nil || bad.Previous.Row != 1 || bad.Previous.ABActiveVolume != VolumeA {
			t.Errorf("%.40q: %+v", rubbish, bad)
			continue
		}
		if links := images(t, s); links != nil {
			t.Errorf("%.40q: links %v", rubbish, links)
		}
		mustRecord(t, s, *bad.Previous)
		if st := mustStatus(t, s); st.Row != 4 || !st.Equal(*bad.Previous) {
			t.Errorf("%.40q: the row before was recorded as %+v", rubbish, st)
		}
	}
	_, err := open(t, upstreamFile(t, "no")).Status(t.Context())
	if bad, ok := errors.AsType[*ParseHostStatusError](err); !ok || bad.Previous != nil {
		t.Errorf("nothing but rubbish: %v", err)
	}
}

func TestALongHistoryIsCutToWhatIsNeeded(t *testing.T) {
	t.Parallel()
	var rows []string
	for i := range 249 { // each wiping what the one before could go back to
		volume := string("ab"[i%2])
		rows = append(rows, upstreamRow("ab-update-staged", volume, fmt.Sprint(i)), upstreamRow("provisioned", string("ba"[i%2]), fmt.Sprint(i)))
	}
	path := upstreamFile(t, append([]string{upstreamRow("provisioned", "a", "first")}, append(rows, upstreamRow("runtime-update-staged", "b", "next"))...)...)
	s := open(t, path)
	st := mustStatus(t, s)
	if st.Row != 500 {
		t.Fatalf("row %d", st.Row)
	}
	st.Phase = Settled{}
	mustRecord(t, s, st)
	want := []string{"runtime 248 volume-b", "ab 247 volume-a"}
	if diff := cmp.Diff(want, images(t, s)); diff != "" {
		t.Error(diff)
	}
	if n := count(t, s, "hoststatus"); n != keepRows {
		t.Errorf("%d rows are left", n)
	}
	for i := range 60 { // a chain longer than what is kept anyway
		st.Spec = fmt.Sprintf("image: {url: http://example.com/r%d.cosi}", i)
		st.Phase = StagedRuntimeUpdate
		mustRecord(t, s, st)
		st.Phase = Settled{}
		mustRecord(t, s, st)
	}
	if got := images(t, s); len(got) != 62 || got[0] != "runtime r58 volume-b" || got[61] != "ab 247 volume-a" {
		t.Errorf("%d links: %v", len(got), got)
	}
	if n := count(t, s, "hoststatus"); n != 125 { // from the row that the last link goes back to
		t.Errorf("%d rows are left", n)
	}
	if n := count(t, s, "trident_hoststatus"); n > 121 {
		t.Errorf("%d rows of ours are left", n)
	}
}

func count(t *testing.T, s *Store, table string) int64 {
	t.Helper()
	n, err := queryNumber(t.Context(), s.db, "SELECT count(*) FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
