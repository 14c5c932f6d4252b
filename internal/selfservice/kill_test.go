package selfservice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
)

// begun upgrades a host to 2.0.0, which behaves as b, and does meanwhile at the
// same time as the operation.
func (w *world) begun(from string, b behaviour, meanwhile func()) *operation.Operation {
	if from != "" {
		w.stageBy(from)
	}
	w.powerOn()
	w.startDaemon()
	synctest.Wait()
	src := w.offer(w.shop.image(w.t, "2.0.0", b))
	w.Mu.Lock()
	w.Touches, w.Trace = 0, nil
	w.Mu.Unlock()
	id, err := w.daemon.service.Upgrade(context.Background(), src, Trial{Soak: 5 * time.Second, Deadline: 60 * time.Second, AllowReadOnlyUsr: true})
	if err != nil && !errors.Is(err, errDead) {
		w.t.Fatal(err)
	}
	w.spawn(meanwhile)
	return w.settle(id, "")
}

// honest checks that an operation has ended with the old version or the new one,
// which answers, that the status says so, and that no version is blocked but one
// that is bad.
func (w *world) honest(op *operation.Operation, b behaviour, old string) {
	t := w.t
	t.Helper()
	want := old
	switch {
	case op == nil:
	case op.Phase == operation.Done && b == healthy:
		want = "2.0.0"
	case op.Phase != operation.Undone:
		t.Errorf("%s at %s: %+v\ntouches: %v", op.Phase, op.Reached, op.Failure, w.Trace)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if w.daemon == nil || w.daemon.dead {
		w.startDaemon()
		time.Sleep(time.Second)
		synctest.Wait()
	}
	if v, err := w.version(context.Background()); v != want || err != nil {
		t.Fatalf("version %q answers (%v), want %s; %+v\ntouches: %v", v, err, want, op, w.Trace)
	}
	st, err := w.daemon.service.Status(context.Background())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	merged := want != "1.0.0"
	if st.Running != want || st.FromExtension != merged || st.Operation != nil || op != nil && (st.Last == nil || st.Last.Phase != op.Phase) {
		t.Errorf("status %+v, want %s", st, want)
	}
	if b == healthy && len(st.Blocked) > 0 {
		t.Errorf("a good version is blocked: %+v\ntouches: %v", st.Blocked, w.Trace)
	}
	if slices.ContainsFunc(st.Blocked, func(b Blocked) bool { return b.Version != "2.0.0" }) {
		t.Errorf("blocked: %+v", st.Blocked)
	}
}

// kills kills daemon and rescuer a few times, at random moments.
func (w *world) kills(random *rand.Rand) {
	for range 1 + random.IntN(5) {
		time.Sleep(time.Duration(random.Int64N(int64(6 * time.Second))))
		if random.IntN(3) == 0 {
			w.killRescuer()
		}
		if random.IntN(4) > 0 {
			w.killDaemon()
		}
	}
}

// Whenever daemon and rescuer are killed, in whichever number, nobody is stuck
// and no good version is blocked.
func TestKillsAtRandomMomentsBlockNoGoodVersion(t *testing.T) {
	shop := newWorkshop(t)
	all := []behaviour{healthy, healthy, healthy, exits, lies, crashes, hangs, unstartable}
	const rounds = 300
	played, kept, blocked := make([]bool, rounds), make([]bool, rounds), make([]bool, rounds)
	t.Run("rounds", func(t *testing.T) {
		for seed := range uint64(rounds) {
			b := all[seed%uint64(len(all))]
			// Rounds take turns by groups in which each behaviour occurs.
			if !hosttest.InTurn(int(seed) / len(all)) {
				continue
			}
			played[seed] = true
			t.Run(fmt.Sprintf("seed %d, %s", seed, b), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, shop)
					old := map[bool]string{true: "1.0.0", false: "1.5.0"}[seed%3 == 0]
					random := rand.New(rand.NewPCG(seed, 7))
					op := w.begun(strings.TrimPrefix(old, "1.0.0"), b, func() { w.kills(random) })
					w.honest(op, b, old)
					kept[seed] = op != nil && op.Phase == operation.Done
					blocked[seed] = len(w.disk.blocked) > 0
					w.shutDown()
				})
			})
		}
	})
	count := func(of []bool, good bool) (n, all3 int) {
		for seed, is := range of {
			if played[seed] && (all[seed%len(all)] == healthy) == good {
				all3++
				if is {
					n++
				}
			}
		}
		return n, all3
	}
	k, good := count(kept, true)
	n, bad := count(blocked, false)
	t.Logf("%d of %d good versions were kept, %d of %d bad ones were blocked", k, good, n, bad)
	if k < good/2 || n < bad/2 {
		t.Error("most good versions should be kept, and most bad ones be blocked")
	}
}

func TestAGoodVersionThatIsKilledOnceOrTwiceInItsSoakIsKept(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.spawn(func() {
			for range 2 {
				for !slices.Contains(w.steps(), "prove") {
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Second)
				w.killDaemon()
			}
		})
		w.upgraded("2.0.0")
		w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
	})
}

// steps are those that operations are at.
func (w *world) steps() (out []string) {
	ops, _ := w.disk.journal.List(context.Background(), 10, true)
	for _, op := range ops {
		out = append(out, op.Step)
	}
	return out
}

func TestASocketThatIsRemovedDuringATrialIsMadeAgainAndNobodyIsBlamed(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.spawn(func() {
			for !slices.Contains(w.steps(), "prove") {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(time.Second)
			w.Mu.Lock()
			w.noSocket = true
			w.Mu.Unlock()
		})
		w.upgraded("2.0.0")
		if w.isSocketDown() {
			t.Error("the socket is gone still")
		}
		w.expect("2.0.0 of 1.0.0, back to base: 2.0.0*")
	})
}

func TestTheNewVersionStartsARescuerWhereThereIsNone(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		w.spawn(func() {
			for !slices.Contains(w.steps(), "activate") {
				time.Sleep(time.Millisecond)
			}
			w.Mu.Lock()
			defer w.Mu.Unlock()
			for unit, kill := range w.watching { // and its unit is gone
				kill(errForGood)
				delete(w.watching, unit)
			}
		})
		w.upgraded("2.0.0")
	})
}

// damages are what can become of a small file.
var damages = []struct {
	name string
	do   func(path string) error
}{
	{"gone", os.RemoveAll},
	{"empty", func(path string) error { return overwrite(path, func([]byte) []byte { return nil }) }},
	{"cut", func(path string) error { return overwrite(path, func(b []byte) []byte { return b[:len(b)/2] }) }},
	{"noise", func(path string) error {
		return overwrite(path, func([]byte) []byte {
			noise := make([]byte, 300)
			random := rand.New(rand.NewPCG(1, 2))
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			return noise
		})
	}},
	{"huge", func(path string) error { return overwrite(path, func([]byte) []byte { return make([]byte, 1<<20) }) }},
	{"a folder", func(path string) error {
		return errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "sub"), 0o700))
	}},
	{"a link to nowhere", func(path string) error { return atomicfile.Symlink("nowhere", path) }},
	{"another's record", func(path string) error {
		return overwrite(path, func([]byte) []byte {
			return []byte(`{"operation":"another","target":{"version":"9.0.0"},"deadline_seconds":60,"verdict":"kept"}`)
		})
	}},
	{"of other types", func(path string) error {
		return overwrite(path, func([]byte) []byte {
			return []byte(`{"operation":7,"version":[],"verdict":"unheard of","deadline_seconds":"soon"}`)
		})
	}},
}

// overwrite replaces whatever is at path, if there is something, by a file.
func overwrite(path string, with func([]byte) []byte) error {
	old, _ := os.ReadFile(path)
	text := with(old)
	return errors.Join(os.RemoveAll(path), os.WriteFile(path, text, 0o600))
}

// smallFiles are those that an operation on ourselves reads or writes, below the
// root. Some are there for a part of the time only.
var smallFiles = []string{
	rescue.Dir + "/rescue.json", rescue.Dir + "/rescue.json.bak", rescue.Dir + "/rescue.lock", rescue.Dir + "/previous",
	rescue.Dir + "/*.part.json", rescue.Base, bootUnitPath, bootWantsPath, rescue.Link,
	rescue.Dir + "/rescue.json*", // both copies
}

// Whichever small file of the store is damaged, at whichever moment of an upgrade
// or a rollback, the host ends with the old version or the new one, and says so.
func TestADamagedFileStrandsNobody(t *testing.T) {
	shop := newWorkshop(t)
	plays := map[string]struct {
		b    behaviour
		old  string
		play func(w *world) *operation.Operation
	}{
		"upgrade":            {healthy, "1.5.0", func(w *world) *operation.Operation { return w.begun("1.5.0", healthy, func() {}) }},
		"upgrade that exits": {exits, "1.5.0", func(w *world) *operation.Operation { return w.begun("1.5.0", exits, func() {}) }},
		"upgrade that lies":  {lies, "1.0.0", func(w *world) *operation.Operation { return w.begun("", lies, func() {}) }},
		"rollback": {healthy, "3.0.0", func(w *world) *operation.Operation {
			hurtAt := w.hurtAt
			w.hurtAt = 0
			w.powerOn()
			w.startDaemon()
			synctest.Wait()
			w.upgraded("2.0.0")
			w.upgraded("3.0.0")
			w.Mu.Lock()
			w.Touches, w.Trace, w.hurtAt = 0, nil, hurtAt
			w.Mu.Unlock()
			return w.end(w.service().Rollback(context.Background(), quick))
		}},
	}
	all := os.Getenv("TRIDENT_ALL_DAMAGES") != ""
	cases := 0
	for name, c := range plays { // in any order, so each play numbers its own cases
		t.Run(name, func(t *testing.T) {
			touches, number := 0, 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, shop)
				c.play(w)
				touches = w.Touches
				w.shutDown()
			})
			for at := 1; at <= touches; at++ {
				for i, file := range smallFiles {
					for k, damage := range damages {
						// One kind for every second file at a moment; the next moment has the
						// other files, and the next kind.
						if !all && ((at+i)%len(damages) != k || (at+i)%2 == 0) {
							continue
						}
						if number++; !all && !hosttest.InTurn(number) {
							continue
						}
						cases++
						t.Run(fmt.Sprintf("%s %s at %d", filepath.Base(file), damage.name, at), func(t *testing.T) {
							t.Parallel()
							synctest.Test(t, func(t *testing.T) {
								w := newWorld(t, shop)
								w.hurtAt = at
								w.hurt = func(w *world) {
									for _, path := range w.paths(file) {
										if err := damage.do(path); err != nil {
											t.Errorf("damage %s: %v", path, err)
										}
									}
								}
								w.honest(c.play(w), c.b, c.old)
								w.shutDown()
							})
						})
					}
				}
			}
		})
	}
	t.Logf("%d cases", cases)
}

// paths are the files for a pattern that are there; the one of the base in the
// base as well as where it is merged.
func (w *world) paths(pattern string) (out []string) {
	roots := []string{w.disk.root}
	if pattern == rescue.Base {
		roots = append(roots, filepath.Join(w.disk.root, "base"))
	}
	for _, root := range roots {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			w.t.Error(err)
		}
		out = append(out, found...)
	}
	return out
}
