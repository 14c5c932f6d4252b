package extension

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// place puts an image where upstream's Trident would.
func (w *world) place(o offer, at string) Extension {
	w.t.Helper()
	w.write(at, string(o.data))
	return Extension{Class: o.class, Path: at, SHA384: o.sha, Regular: true}
}

// shop has the images of the power-cut test.
type shop struct{ one, two, etc, conf, conf2 offer }

func newShop(t testing.TB) shop {
	return shop{
		one: imageFor(t, Sysext, "app", "SYSEXT_VERSION_ID=1\n"), two: imageFor(t, Sysext, "app", "SYSEXT_VERSION_ID=2\n"),
		etc: imageFor(t, Sysext, "tool", ""), conf: imageFor(t, Confext, "settings", ""), conf2: imageFor(t, Confext, "more", ""),
	}
}

// cuts are changes of every kind: each prepares a host and says what is wanted.
func cuts(s shop) map[string]func(*world) Change {
	return map[string]func(*world) Change{
		"the first ones": func(w *world) Change {
			return w.plan(nil, w.stage(s.one, ""), w.stage(s.etc, "/etc/extensions/tool.raw"), w.stage(s.conf, ""))
		},
		"the same name, new content": func(w *world) Change {
			return w.plan(w.apply(nil, w.stage(s.one, "")), w.stage(s.two, ""))
		},
		"another folder": func(w *world) Change {
			return w.plan(w.apply(nil, w.stage(s.etc, "")), w.stage(s.etc, "/etc/extensions/tool.raw"))
		},
		"removal of all": func(w *world) Change {
			return w.plan(w.apply(nil, w.stage(s.one, ""), w.stage(s.conf, "")))
		},
		"one goes, one comes, one stays": func(w *world) Change {
			now := w.apply(nil, w.stage(s.one, ""), w.stage(s.conf, ""))
			return w.plan(now, w.stage(s.one, ""), w.stage(s.etc, ""), w.stage(s.conf2, ""))
		},
		"over what upstream placed": func(w *world) Change {
			now := Generation{w.place(s.one, "/var/lib/extensions/app.raw"), w.place(s.etc, "/etc/extensions/tool.raw"), w.place(s.conf, "/var/lib/confexts/settings.raw")}
			for _, class := range []Class{Sysext, Confext} {
				if err := w.merge(class); err != nil {
					w.t.Fatal(err)
				}
			}
			keep, err := w.store.Load(w.t.Context(), now[2])
			if err != nil {
				w.t.Fatal(err)
			}
			return w.plan(now, w.stage(s.two, ""), keep)
		},
	}
}

// Wherever the power is cut, and cut again while the change goes on, or is taken
// back, in the end the host has exactly the one generation or the other.
func TestAChangeSurvivesPowerCuts(t *testing.T) {
	s := newShop(t)
	cases := 0
	for name, prepare := range cuts(s) {
		// Where an undisturbed change leads, and how many touches it has.
		w := newWorld(t)
		c := prepare(w)
		old := w.state()
		w.powerOn(0, false)
		if err := w.store.Apply(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		applied, forwards := w.state(), w.touches
		w.powerOn(0, false)
		if err := w.store.Undo(t.Context(), journaled(t, c)); err != nil {
			t.Fatalf("%s: undo: %v", name, err)
		}
		w.wantState(old)
		backwards := w.touches
		if maps.Equal(old, applied) || forwards < 2 || backwards < 2 {
			t.Errorf("%s: nothing happens", name)
		}
		for first := 1; first <= forwards; first++ {
			for _, after := range []bool{false, true} {
				second := 0 // never
				if after {
					second = min(first+1, backwards)
				}
				cases++
				t.Run(fmt.Sprintf("%s, cut at %d after=%v and at %d", name, first, after, second), func(t *testing.T) {
					t.Parallel()
					playForwards(t, prepare, first, second, after, applied)
					playBackwards(t, prepare, first, second, after, old)
				})
			}
		}
	}
	t.Logf("%d cases, each forwards and backwards", cases)
}

func playForwards(t *testing.T, prepare func(*world) Change, first, second int, after bool, want map[string]string) {
	w := newWorld(t)
	c := prepare(w)
	w.powerOn(first, after)
	if err := w.store.Apply(t.Context(), c); !errors.Is(err, errPowerCut) {
		t.Fatalf("cut at %d: %v", first, err)
	}
	for _, cut := range []int{second, 0} {
		w.powerOn(cut, !after)
		again, err := w.store.Verify(t.Context(), journaled(t, c))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Apply(t.Context(), again); err != nil && !errors.Is(err, errPowerCut) {
			t.Fatalf("after the cuts: %v", err)
		}
	}
	w.wantState(want)
}

func playBackwards(t *testing.T, prepare func(*world) Change, first, second int, after bool, want map[string]string) {
	w := newWorld(t)
	c := prepare(w)
	w.powerOn(first, after)
	_ = w.store.Apply(t.Context(), c)
	for _, cut := range []int{second, 0} {
		w.powerOn(cut, after)
		if err := w.store.Undo(t.Context(), journaled(t, c)); err != nil && !errors.Is(err, errPowerCut) {
			t.Fatalf("after the cuts: %v", err)
		}
	}
	w.wantState(want)
	if err := w.store.Prune(c.Old); err != nil {
		t.Fatal(err)
	}
	w.wantState(want)
	for hash := range w.stored() {
		if !c.Old.has(fullHash(t, w, hash)) {
			t.Errorf("left in the store: %s", hash)
		}
	}
}

func fullHash(t *testing.T, w *world, start string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.root, storeDir, start+"*.raw"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", start, found, err)
	}
	if _, err := os.Stat(found[0]); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(found[0])[:96]
}
