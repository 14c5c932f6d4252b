package servicing

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// rewrite changes the record of the last operation of a machine whose daemon is stopped.
func (w *osWorld) rewrite(change func(record, part map[string]any)) {
	w.t.Helper()
	store, err := hoststate.Open(context.Background(), filepath.Join(w.root, datastore))
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := store.List(context.Background(), 1, false)
	if err != nil || len(list) != 1 {
		w.t.Fatal(list, err)
	}
	var record map[string]any
	if err := json.Unmarshal(list[0].State, &record); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range record["parts"].([]any) {
		change(record, p.(map[string]any))
	}
	if list[0].State, err = json.Marshal(record); err != nil {
		w.t.Fatal(err)
	}
	if err := store.Save(context.Background(), list[0]); err != nil {
		w.t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func olderRelease(record, part map[string]any) {
	for _, key := range []string{"sha384", "proof", "content"} {
		delete(part, key)
	}
	delete(record, "examined")
	delete(record, "boot_begun")
}

func withoutProof(_, part map[string]any) { delete(part, "proof") }

func anotherProof(_, part map[string]any) { part["proof"] = strings.Repeat("0", 96) }

// A slot gets boot files, and a trial, only if the record has the digest that all of each
// part was found to have; it does after a restart, and in a second operation. A record of
// an older release, which wrote down no digest, goes on.
func TestOnlyWhatIsProvenBoots(t *testing.T) {
	t.Parallel()
	const unproven = "was not written, or does not have the verified content of the image"
	flip := func(w *osWorld) {
		file := filepath.Join(w.root, change.Dir, "staged/esp.img")
		data, err := os.ReadFile(file)
		if err == nil {
			data[len(data)-1] ^= 1
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(record, part map[string]any)
		damage func(w *osWorld)
		says   string // "": it goes on
	}{
		"nothing happens":                        {},
		"a record of an older release":           {change: olderRelease},
		"no proof":                               {change: withoutProof, says: unproven},
		"the proof of something else":            {change: anotherProof, says: unproven},
		"the copy of the boot files has changed": {damage: flip, says: "has changed since it was verified"},
	} {
		check := func(t *testing.T, w *osWorld, op *operation.Operation) {
			t.Helper()
			want, runs := operation.Done, slot.B
			if c.says != "" {
				want, runs = operation.Undone, slot.A
			}
			if op.Phase != want || w.slot != runs || op.Failure != nil && !strings.Contains(op.Failure.Message, c.says) {
				t.Errorf("%s, %v runs: %+v", op.Phase, w.slot, op.Failure)
			}
		}
		t.Run("restart, "+name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, w *osWorld) {
				hook, hangs := w.systemd.Hook, true
				w.systemd.Hook = func(ctx context.Context, call systemdtest.Call) error {
					if hangs && call.Method == "StartTransient" && strings.Contains(call.Unit, "-post-") {
						return nil
					}
					return hook(ctx, call)
				}
				_, start := updating(v2, true, true)(w)
				if _, err := start(w.daemon.service); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				w.stopDaemon()
				if c.change != nil {
					w.rewrite(c.change)
				}
				if c.damage != nil {
					c.damage(w)
				}
				hangs = false
				w.startDaemon()
				check(t, w, w.settled(""))
			})
		})
		if c.damage != nil { // they are on the ESP by now
			continue
		}
		t.Run("finalized apart, "+name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, w *osWorld) {
				w.must(updating(v2, true, false))
				w.stopDaemon()
				if c.change != nil {
					w.rewrite(c.change)
				}
				w.startDaemon()
				kind, start := updating(v2, false, true)(w)
				check(t, w, w.run(kind, start, ""))
			})
		})
	}
}
