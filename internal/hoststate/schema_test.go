package hoststate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// The first release did with a file what is in testdata: it applied its schema,
// saved and read. It knew of no version of the schema.
func firstRelease(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/first-release.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheFirstReleaseReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	path, status := used(t)
	db := raw(t, path)
	if _, err := db.Exec(firstRelease(t)); err != nil {
		t.Fatal(err)
	}
	var n, events int
	if err := db.QueryRow(`SELECT count(*) FROM trident_operations WHERE NOT (settled AND false)`).Scan(&n); err != nil || n != 4 {
		t.Errorf("%d operations, %v", n, err)
	}
	if err := db.QueryRow(`SELECT count(*) FROM trident_events`).Scan(&events); err != nil || events != 4 {
		t.Errorf("%d events, %v", events, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path) // and we read what it wrote
	if op, err := s.Load(t.Context(), "first"); err != nil || op.Phase != operation.Doing {
		t.Errorf("%+v, %v", op, err)
	}
	if b, err := s.Blocked(t.Context()); err != nil || len(b) != 1 {
		t.Errorf("%v, %v", b, err)
	}
	if !mustStatus(t, s).Equal(status) {
		t.Error("the status has changed")
	}
}

func TestWeReadWhatTheFirstReleaseWrote(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	db := raw(t, path)
	if _, err := db.Exec(firstRelease(t)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if op, err := s.Load(t.Context(), "first"); err != nil || op.Phase != operation.Doing {
		t.Errorf("%+v, %v", op, err)
	}
	mustRecord(t, s, Status{Phase: Fresh{}, TridentVersion: "1.0.0"})
}

func TestANewerSublevelIsReadAndANewerLevelRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version int
		read    bool
	}{{0, true}, {1 << 16, true}, {1<<16 | 1, true}, {1<<16 | 99, true}, {2 << 16, false}, {2<<16 | 7, false}} {
		path, status := used(t)
		db := raw(t, path)
		if _, err := db.Exec(fmt.Sprintf(`CREATE TABLE trident_news (a TEXT); ALTER TABLE trident_operations ADD COLUMN more TEXT;
			PRAGMA user_version = %d`, c.version)); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		before := read(t, path)
		s, err := Open(t.Context(), path)
		if !c.read {
			if errkind.Of(err) != errkind.Incompatible || errkind.Hint(err) == "" || string(before) != string(read(t, path)) {
				t.Errorf("%x: %v", c.version, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%x: %v", c.version, err)
			continue
		}
		settle(t, s, "x")
		if !mustStatus(t, s).Equal(status) {
			t.Errorf("%x: the status has changed", c.version)
		}
		if n, err := queryNumber(t.Context(), s.db, "PRAGMA user_version"); n != int64(max(c.version, schemaLevel<<16|schemaSublevel)) || err != nil {
			t.Errorf("%x became %x, %v", c.version, n, err)
		}
		s.Close()
	}
}

func TestOpeningACurrentDatastoreWritesNothing(t *testing.T) {
	t.Parallel()
	path, _ := used(t)
	old := time.Unix(1, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	_, err := s.Status(t.Context())
	_, lerr := s.List(t.Context(), 1, true)
	if err := errors.Join(err, lerr, s.Close()); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || !fi.ModTime().Equal(old) {
		t.Errorf("written at %v, %v", fi.ModTime(), err)
	}
}

func TestAnOperationThatIsNoJSONIsDamage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	s := open(t, path)
	body, err := json.Marshal(operation.Operation{ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(`INSERT INTO trident_operations VALUES ('1', 0, ?)`, string(body[1:])); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("err = %v", err)
	}
}
