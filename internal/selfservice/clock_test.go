package selfservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// The certificate of these tests is valid from 2025 to the end of 2034, and the
// sources are of the middle of 2025.
var (
	validFrom  = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	sourceDate = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	today      = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)
)

func deadClocks() []time.Time {
	var out []time.Time
	for _, year := range []int{1970, 2001, 2037} {
		out = append(out, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	return out
}

// newDatedWorld is a host with a base and an extension, 1.5.0, and a clock.
func newDatedWorld(t *testing.T, shop *workshop, now time.Time) *world {
	w := newWorld(t, shop)
	w.built = sourceDate
	w.setClock(now)
	w.stageBy("1.5.0")
	w.powerOn()
	w.startDaemon()
	synctest.Wait()
	return w
}

func (w *world) cutAtTouch(n int, dead time.Time) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	w.Touches, w.CutAt, w.After, w.Trace, w.dead = 0, n, true, nil, dead
}

// A power cut at any point of an upgrade or of a rollback, after which the clock is
// dead, throws nothing away: the operation ends as it would have without.
func TestADeadClockAfterAPowerCutThrowsNothingAway(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	for _, c := range []struct {
		name, want string
		begin      func(w *world) (string, error)
		prepare    func(w *world)
	}{
		{"upgrade", "2.0.0 of 1.0.0, back to 1.5.0: 1.5.0< 2.0.0*", func(w *world) (string, error) {
			return w.service().Upgrade(context.Background(), w.offer(shop.image(w.t, "2.0.0", healthy)), quick)
		}, func(*world) {}},
		{"rollback", "1.5.0 of 1.0.0, back to base: 1.5.0* 2.0.0", func(w *world) (string, error) {
			return w.service().Rollback(context.Background(), quick)
		}, func(w *world) { w.upgraded("2.0.0") }},
	} {
		play := func(t *testing.T, cutAt int, dead time.Time) (touches int) {
			w := newDatedWorld(t, shop, today)
			c.prepare(w)
			w.cutAtTouch(cutAt, dead)
			id, err := c.begin(w)
			if err != nil && !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			op := w.settle(id, "")
			if op == nil || op.ID != id {
				w.shutDown() // the cut came before the operation was recorded
				return 0
			}
			if op.Phase != operation.Done {
				t.Errorf("%s: %+v", op.Phase, op.Failure)
			}
			if w.daemon == nil { // a client would bring it up
				w.startDaemon()
				synctest.Wait()
			}
			w.expect(c.want)
			if blocked := w.status().Blocked; len(blocked) > 0 {
				t.Errorf("blocked: %+v", blocked)
			}
			touches = w.Touches
			w.shutDown()
			return touches
		}
		t.Run(c.name, func(t *testing.T) {
			touches := 0
			synctest.Test(t, func(t *testing.T) { touches = play(t, 0, time.Time{}) })
			if touches < 10 {
				t.Fatalf("%d touches", touches)
			}
			for n := 1; n <= touches; n++ {
				for i, dead := range deadClocks() {
					if !hosttest.InTurn(n + i) {
						continue
					}
					t.Run(fmt.Sprintf("cut at %d, then %d", n, dead.Year()), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { play(t, n, dead) })
					})
				}
			}
		})
	}
}

// The dates count when an image comes, and not on the way back.
func TestARollbackWorksWhateverTheClockSays(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	for _, dead := range deadClocks() {
		for _, record := range []string{"recorded", "staged by an earlier release", "with a damaged record"} {
			t.Run(fmt.Sprintf("%d, %s", dead.Year(), record), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newDatedWorld(t, shop, today)
					w.upgraded("2.0.0")
					w.upgraded("3.0.0")
					path := filepath.Join(w.disk.root, rescue.Dir, "2.0.0.json")
					var k struct {
						Signer     string    `json:"signer"`
						VerifiedAt time.Time `json:"verified_at"`
					}
					if data, err := os.ReadFile(path); err != nil || json.Unmarshal(data, &k) != nil || k.Signer != "CN=workshop" || k.VerifiedAt.Year() != 2026 {
						t.Fatalf("the record of 2.0.0: %s, %v", data, err)
					}
					switch record {
					case "staged by an earlier release":
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
					case "with a damaged record":
						write(t, path, `{"root_hash":`, 0o600)
					}
					w.setClock(dead)
					if got := w.status().RollbackTarget; got != "2.0.0" {
						t.Errorf("back to %q", got)
					}
					op := w.end(w.service().Rollback(context.Background(), quick))
					if op.Phase != operation.Done {
						t.Fatalf("rollback: %s: %+v", op.Phase, op.Failure)
					}
					w.wantWarning(op.ID, "do not count for an image", dead.Year() == 2037)
					op = w.end(w.service().Activate(context.Background(), "3.0.0", quick))
					if op.Phase != operation.Done {
						t.Fatalf("activate: %s: %+v", op.Phase, op.Failure)
					}
					w.shutDown()
				})
			})
		}
	}
}

func (w *world) wantWarning(id, text string, want bool) {
	w.t.Helper()
	events, err := w.disk.journal.Events(context.Background(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	found := false
	for _, e := range events {
		found = found || strings.Contains(e.Message, text)
	}
	if found != want {
		w.t.Errorf("said %q: %v, want %v: %+v", text, found, want, events)
	}
}

// An image that comes while the certificate is not valid is refused, and what the
// host has stays. A clock that is before the sources of the daemon is not believed.
func TestTheDatesCountWhenAnImageComes(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	for _, now := range append(deadClocks(), today, validFrom.Add(-time.Hour)) {
		t.Run(now.Format(time.DateOnly), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDatedWorld(t, shop, now)
				op := w.upgrade("2.0.0", healthy)
				if now.Before(validUntil) {
					if op.Phase != operation.Done {
						t.Errorf("%s: %+v", op.Phase, op.Failure)
					}
				} else {
					if op.Phase != operation.Undone || op.Failure.Kind != errkind.Untrusted || !strings.Contains(op.Failure.Hint, "2037") {
						t.Errorf("%s: %+v", op.Phase, op.Failure)
					}
					w.expect("1.5.0 of 1.0.0, back to base: 1.5.0*")
				}
				w.shutDown()
			})
		})
	}
}

// The image that a rollback returns to is damaged, replaced, or its signer is
// trusted no more: the rollback leads to the base, says so, and status promised no
// more than that.
func TestARollbackFallsBackToTheBase(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	for name, c := range map[string]struct {
		spoil func(w *world, image string)
		says  string
	}{
		"a byte of the data": {func(w *world, image string) {
			data, err := os.ReadFile(image)
			if err != nil {
				w.t.Fatal(err)
			}
			data[40<<10+5000] ^= 1
			write(w.t, image+".new", string(data), 0o600)
			if err := os.Rename(image+".new", image); err != nil {
				w.t.Fatal(err)
			}
		}, "cannot be activated"},
		"emptied": {func(w *world, image string) { write(w.t, image+".new", "", 0o600); _ = os.Rename(image+".new", image) }, "cannot be activated"},
		"another signed image of that version": {func(w *world, image string) {
			other := shop.variant(w.t, "2.0.0", healthy, "other", func(tree string) { write(w.t, filepath.Join(tree, "usr/bin/trident"), "other", 0o755) })
			copyFile(w.t, other, image+".new")
			if err := os.Rename(image+".new", image); err != nil {
				w.t.Fatal(err)
			}
		}, "but the image that was verified on 2026-11-28 had the root hash"},
		"its signer is trusted no more": {func(w *world, _ string) {
			write(w.t, filepath.Join(w.disk.root, "etc/trident/trust.d/shop.crt"), "", 0o644)
		}, "no certificate is trusted on this host"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDatedWorld(t, shop, today)
				w.upgraded("2.0.0")
				w.upgraded("3.0.0")
				if got := w.status().RollbackTarget; got != "2.0.0" {
					t.Errorf("before: back to %q", got)
				}
				c.spoil(w, filepath.Join(w.disk.root, rescue.Dir, "2.0.0.raw"))
				if got := w.status().RollbackTarget; got != "base" {
					t.Errorf("after: back to %q", got)
				}
				op := w.end(w.service().Rollback(context.Background(), quick))
				if op.Phase != operation.Done {
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				}
				w.wantWarning(op.ID, c.says, true)
				if got := w.status(); got.Running != "1.0.0" || got.Active != "" {
					t.Errorf("%s runs, %q is active", got.Running, got.Active)
				}
				w.shutDown()
			})
		})
	}
}

// An upgrade is taken back while the image before is damaged: the base comes back,
// because systemd could not merge the image.
func TestAnUndoFallsBackToTheBase(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	synctest.Test(t, func(t *testing.T) {
		w := newDatedWorld(t, shop, today)
		w.upgraded("2.0.0")
		src := w.offer(shop.image(t, "3.0.0", lies))
		image := filepath.Join(w.disk.root, rescue.Dir, "2.0.0.raw")
		id, err := w.service().Upgrade(context.Background(), src, quick)
		if err != nil {
			t.Fatal(err)
		}
		write(t, image+".new", "damaged", 0o600)
		if err := os.Rename(image+".new", image); err != nil {
			t.Fatal(err)
		}
		op := w.settle(id, "")
		if op.Phase != operation.Undone {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		if got := w.status(); got.Running != "1.0.0" || got.Active != "" {
			t.Errorf("%s runs, %q is active", got.Running, got.Active)
		}
		w.shutDown()
	})
}

// One file that is broken keeps nothing of the rest from being shown, and the way
// back that is shown works.
func TestStatusShowsTheRestAndTheFault(t *testing.T) {
	shop := newWorkshopWithin(t, validFrom, validUntil)
	for name, c := range map[string]struct {
		path, text string
		certs      int
		base       string
		back       string
	}{
		"a certificate":           {"base/usr/lib/trident/trust.d/z.crt", "words", 1, "1.0.0", "base"}, // as nothing is verified
		"the base's record":       {"base/usr/lib/trident/base.json", "{", 1, "", "2.0.0"},
		"another vendor's layer":  {"var/lib/extensions/vendor/usr/lib/trident/base.json", "{}", 1, "1.0.0", "2.0.0"},
		"an administrator's file": {"etc/trident/trust.d/shop.crt", "-----BEGIN", 0, "1.0.0", "base"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDatedWorld(t, shop, today)
				w.upgraded("2.0.0")
				w.upgraded("3.0.0")
				write(t, filepath.Join(w.disk.root, c.path), c.text, 0o644)
				if err := w.merge(); err != nil { // shows the files of the base
					t.Fatal(err)
				}
				st := w.status()
				if st.Running != "3.0.0" || st.Active != "3.0.0" || len(st.Images) != 3 || len(st.Trusted) != c.certs || st.Base != c.base || st.RollbackTarget != c.back || st.Last == nil {
					t.Errorf("%+v", st)
				}
				if file := strings.TrimPrefix(c.path, "base"); len(st.Faults) == 0 || !strings.Contains(strings.Join(st.Faults, "\n"), filepath.Dir(filepath.Dir(file))) && !strings.Contains(strings.Join(st.Faults, "\n"), "/var/lib/extensions/vendor") {
					t.Errorf("faults: %q", st.Faults)
				}
				if name == "another vendor's layer" {
					w.shutDown()
					return // it would take part in the merge
				}
				if op := w.end(w.service().Rollback(context.Background(), quick)); op.Phase != operation.Done {
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				}
				w.shutDown()
			})
		})
	}
}
