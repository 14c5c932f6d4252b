package hoststate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTheStoreIsAJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "data store?.sqlite")
	var last *Store
	operationtest.Suite(t, func(t *testing.T) operation.Journal {
		if last != nil {
			if err := last.Close(); err != nil {
				t.Fatal(err)
			}
		}
		last = open(t, path)
		return last
	})
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestABlockedVersionStaysBlockedUntilUnblocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sqlite")
	b := Blocked{Version: "2.0.0", Reason: "it hung", Time: time.Unix(1, 0).UTC(), Operation: "op", Evidence: "/e"}
	s := open(t, path)
	for range 2 {
		if err := s.Block(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, path)
	got, err := s.Blocked(t.Context())
	if diff := cmp.Diff([]Blocked{b}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for range 2 {
		if err := s.Unblock(t.Context(), "2.0.0"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := s.Blocked(t.Context()); len(got) != 0 {
		t.Errorf("still blocked: %v", got)
	}
}

func TestOldSettledOperationsArePrunedWithTheirEvents(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "d.sqlite"))
	kind := "update"
	save := func(id string, p operation.Phase) {
		op := operation.Operation{ID: id, Kind: kind, Phase: p, Plan: []string{"a"}, State: json.RawMessage("{}")}
		if err := s.Save(t.Context(), op, operation.Event{Operation: id, Sequence: 1}); err != nil {
			t.Fatal(err)
		}
	}
	save("running", operation.Doing)
	kind = "install"
	save("old install", operation.Done)
	save("install", operation.Done)
	kind = "update"
	for i := range maxSettled + 5 {
		save(fmt.Sprint(i), operation.Done)
	}
	ops, err := s.List(t.Context(), 10*maxSettled, false)
	if err != nil || len(ops) != maxSettled+2 || ops[len(ops)-1].ID != "running" || ops[len(ops)-2].ID != "install" || ops[0].ID != fmt.Sprint(maxSettled+4) {
		t.Errorf("%d operations, %v", len(ops), err)
	}
	if e, _ := s.Events(t.Context(), "0", 0, 1); len(e) != 0 {
		t.Error("events of a pruned operation are left")
	}
	if e, _ := s.Events(t.Context(), "running", 0, 1); len(e) != 1 {
		t.Error("events of the running operation are gone")
	}
}

func TestADamagedOrForeignFileIsAnErrorAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"foreign": "this is no database, but it is somebody's", "zeros": string(make([]byte, 8192))} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), path); err == nil || errkind.Hint(err) == "" {
			s.Close()
			t.Errorf("%s: err = %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestASnapshotIsADatastoreOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "d.sqlite"))
	if err := s.Block(t.Context(), Blocked{Version: "2.0.0"}); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "it's a copy")
	for range 2 { // the second time over the first
		if err := s.Snapshot(t.Context(), copied); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Unblock(t.Context(), "2.0.0"); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, copied).Blocked(t.Context()); len(got) != 1 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// The text of the rows is what the releases before and after read.
func TestRowsKeepTheirForm(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "d.sqlite"))
	if _, err := s.db.Exec(`INSERT INTO trident_operations (id, settled, body) VALUES ('x', 0, ?)`,
		`{"id":"x","kind":"self-upgrade","summary":"upgrade","phase":"doing","plan":["fetch"],"step":"fetch","created":"2026-01-02T03:04:05Z",
		  "updated":"2026-01-02T03:04:05Z","sequence":7,"state":{"target":"2.0.0"},"from_the_future":true}`); err != nil {
		t.Fatal(err)
	}
	op, err := s.Load(t.Context(), "x")
	if err != nil || op.Kind != "self-upgrade" || op.Phase != operation.Doing || op.Sequence != 7 || op.Step != "fetch" {
		t.Errorf("%+v, %v", op, err)
	}
}
