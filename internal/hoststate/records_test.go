package hoststate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// imageUpdate is the record of the operations in the files of formerRecords.
type imageUpdate struct {
	URL     string `json:"url"`
	Bad     bool   `json:"bad"`
	Written int64  `json:"written"`
	Former  string `json:"former,omitempty"`
}

// formerRecords are datastores that earlier releases of this package and of package
// operation wrote, as SQL. In each, the operation for good.cosi has succeeded after a
// restart, the one for bad.cosi was rolled back, and the power was cut while the one for
// cut.cosi was in its step write.
func formerRecords(t *testing.T, test func(t *testing.T, name, path string)) {
	for _, name := range []string{
		"journal-only",        // operations, events and blocked versions; no version of the schema
		"journal-and-status",  // and the host status, names of requests, places of errors
		"journal-with-begins", // and how often a step began
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".sql")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "datastore.sqlite")
			db := raw(t, path)
			if _, err := db.Exec(string(text)); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			test(t, name, path)
		})
	}
}

// operationOf returns the operation for the image.
func operationOf(t *testing.T, s *Store, image string) operation.Operation {
	t.Helper()
	all, err := s.List(t.Context(), 100, false)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d operations, %v", len(all), err)
	}
	i := slices.IndexFunc(all, func(o operation.Operation) bool { return strings.Contains(string(o.State), image) })
	if i < 0 {
		t.Fatalf("no operation for %s", image)
	}
	return all[i]
}

func TestFormerRecordsLoseNoField(t *testing.T) {
	t.Parallel()
	formerRecords(t, func(t *testing.T, _, path string) {
		s := open(t, path)
		for _, q := range []struct {
			text string
			load func(key string, sequence uint64) (any, error)
		}{
			{`SELECT id, 0, body FROM trident_operations`, func(id string, _ uint64) (any, error) { return s.Load(t.Context(), id) }},
			{`SELECT operation, sequence, body FROM trident_events`, func(id string, n uint64) (any, error) {
				e, err := s.Events(t.Context(), id, n-1, 1)
				if err != nil || len(e) != 1 || e[0].Operation != id || e[0].Sequence != n {
					return nil, fmt.Errorf("events %+v, %w", e, err)
				}
				return e[0], nil
			}},
			{`SELECT version, 0, body FROM trident_blocked`, func(string, uint64) (any, error) {
				b, err := s.Blocked(t.Context())
				if err != nil || len(b) != 1 {
					return nil, fmt.Errorf("blocked %+v, %w", b, err)
				}
				return b[0], nil
			}},
		} {
			type row struct {
				key      string
				sequence uint64
				body     string
			}
			var all []row
			rows, err := s.db.Query(q.text)
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				var r row
				if err := rows.Scan(&r.key, &r.sequence, &r.body); err != nil {
					t.Fatal(err)
				}
				all = append(all, r)
			}
			if err := rows.Close(); err != nil || len(all) == 0 {
				t.Fatalf("%s: %d rows, %v", q.text, len(all), err)
			}
			for _, r := range all {
				v, err := q.load(r.key, r.sequence)
				if err != nil {
					t.Fatal(err)
				}
				now, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				var was, is map[string]any
				if err := json.Unmarshal([]byte(r.body), &was); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(now, &is); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(was, is); diff != "" {
					t.Errorf("%s %d (-recorded +read):\n%s", r.key, r.sequence, diff)
				}
			}
		}
	})
}

func TestFormerRecordsMeanWhatTheyMeant(t *testing.T) {
	t.Parallel()
	formerRecords(t, func(t *testing.T, name, path string) {
		s := open(t, path)
		good, bad, cut := operationOf(t, s, "good.cosi"), operationOf(t, s, "bad.cosi"), operationOf(t, s, "cut.cosi")
		if good.Phase != operation.Done || bad.Phase != operation.Undone || cut.Phase != operation.Doing || cut.Step != "write" {
			t.Errorf("phases %s %s %s, step %s", good.Phase, bad.Phase, cut.Phase, cut.Step)
		}
		states := func(o operation.Operation) (out []operation.StepState) {
			for _, s := range o.Steps() {
				out = append(out, s.State)
			}
			return out
		}
		if got := states(bad); !slices.Equal(got, []operation.StepState{operation.StepUndone, operation.StepUndone, operation.StepPending, operation.StepPending}) {
			t.Errorf("steps of the operation that was rolled back: %v", got)
		}
		if got := states(cut); !slices.Equal(got, []operation.StepState{operation.StepDone, operation.StepDoing, operation.StepPending, operation.StepPending}) {
			t.Errorf("steps of the operation that was cut: %v", got)
		}
		if err := bad.Failure.Err(); errkind.Of(err) != errkind.NoSpace || errkind.Hint(err) != "free space" || err.Error() != "write: write image: the disk is full" {
			t.Errorf("failure %v", err)
		}
		if name == "journal-only" {
			if st := mustStatus(t, s); st.Phase != (Fresh{}) {
				t.Errorf("status %+v", st)
			}
			return
		}
		want := Status{
			Phase: StagedABUpdate, Spec: "os:\n  hostname: second\n", SpecOld: "os:\n  hostname: first\n", ABActiveVolume: VolumeA, TridentVersion: "1.0.0",
			PartitionPaths: map[string]string{"root-a": "/dev/sda2", "root-b": "/dev/sda3"}, DiskUUIDs: map[string]string{"disk": "0fc63daf-8483-4772-8e79-3d69d8477de4"},
		}
		if st := mustStatus(t, s); !st.Equal(want) || st.Row != 6 || st.Time.IsZero() {
			t.Errorf("status %+v", st)
		}
		if good.Request != "request-1" || good.RequestID != "r" || good.Traceparent == "" {
			t.Errorf("origin of the operation: %+v", good)
		}
		var text string
		if err := s.db.QueryRow(`SELECT contents FROM hoststatus WHERE id = 5`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		failed, err := ParseStatus([]byte(text))
		if err != nil || failed.LastError == nil || failed.LastError.Message != "write image: the disk is full" || failed.LastError.Name != "servicing" {
			t.Errorf("status of row 5: %+v, %v", failed, err)
		}
	})
}

func TestAnOperationThatAFormerReleaseBeganIsResumed(t *testing.T) {
	t.Parallel()
	formerRecords(t, func(t *testing.T, name, path string) {
		s := open(t, path)
		before := operationOf(t, s, "cut.cosi")
		r := operation.New(t.Context(), operation.Config{Journal: s, Life: operation.Life{Boot: "next", Process: "next"}, Logger: slog.New(slog.DiscardHandler)})
		var done []string
		begins := 0
		step := func(name string) operation.Step[imageUpdate] {
			return operation.Step[imageUpdate]{Name: name, Do: func(ctx context.Context, run *operation.Run[imageUpdate]) error {
				done = append(done, name)
				if name == "write" {
					op, err := s.Load(ctx, run.ID)
					begins = op.Begins
					if run.State != (imageUpdate{URL: "https://host/cut.cosi", Written: 200, Former: "old"}) {
						t.Errorf("record %+v", run.State)
					}
					return err
				}
				return nil
			}}
		}
		operation.Register(r, operation.Kind[imageUpdate]{Name: "image-update", Steps: []operation.Step[imageUpdate]{step("fetch"), step("write"), step("restart"), step("settle")}})
		if err := r.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := uint64(0)
		for e, err := range r.Watch(t.Context(), before.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if last++; e.Sequence != last {
				t.Fatalf("event %d follows %d", e.Sequence, last-1)
			}
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := operationOf(t, s, "cut.cosi")
		if after.Phase != operation.Done || !slices.Equal(done, []string{"write", "restart", "settle"}) || last <= before.Sequence || after.Sequence != last {
			t.Errorf("%s after the steps %v, %d events after %d", after.Phase, done, after.Sequence, before.Sequence)
		}
		if want := map[string]int{"journal-only": 1, "journal-and-status": 1, "journal-with-begins": 2}[name]; begins != want {
			t.Errorf("the step has begun %d times, and not %d", begins, want)
		}
		if !after.Created.Equal(before.Created) || after.Summary != "write cut.cosi" || after.RequestID != before.RequestID {
			t.Errorf("operation %+v", after)
		}
	})
}
