package selfservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/selfservice/images"
)

// A scenario is an upgrade and where it has to lead.
type scenario struct {
	name     string
	b        behaviour
	from     string // an extension that is active before; "" for the base
	cancelAt string // a step to cancel at
	want     operation.Phase
}

var scenarios = []scenario{
	{name: "healthy", b: healthy, want: operation.Done},
	{name: "healthy over an extension", b: healthy, from: "1.5.0", want: operation.Done},
	{name: "cancelled", b: healthy, from: "1.5.0", cancelAt: "prove", want: operation.Undone},
	{name: "exits", b: exits, want: operation.Undone},
	{name: "hangs", b: hangs, from: "1.5.0", want: operation.Undone},
	{name: "lies", b: lies, from: "1.5.0", want: operation.Undone},
	{name: "crashes", b: crashes, from: "1.5.0", want: operation.Undone},
	{name: "unstartable", b: unstartable, want: operation.Undone},
}

// However an upgrade goes and wherever the power is cut, forwards or while it is
// taken back, the host ends with one working version that answers, and its
// status tells the truth about it.
func TestAnUpgradeSurvivesPowerCuts(t *testing.T) {
	shop := newWorkshop(t)
	cases, played := 0, 0
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			touches := 0
			played++
			t.Run("no cut", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := sc.play(t, shop, 0, false)
					touches = w.Touches
					t.Logf("touches: %s", strings.Join(w.Trace, ", "))
				})
			})
			for n := 1; n <= touches; n++ {
				for _, after := range []bool{false, true} {
					cases++
					if !hosttest.InTurn(cases) {
						continue
					}
					t.Run(fmt.Sprintf("cut at %d, after=%v", n, after), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { sc.play(t, shop, n, after) })
					})
				}
			}
		})
	}
	if cases < 200 && played == len(scenarios) {
		t.Errorf("%d cases only", cases)
	}
	t.Logf("%d cases", cases)
}

// play runs one scenario to its end and checks the host.
func (sc scenario) play(t *testing.T, shop *workshop, cutAt int, after bool) *world {
	w := newWorld(t, shop)
	if sc.from != "" {
		w.stageBy(sc.from)
	}
	w.powerOn()
	w.startDaemon()
	synctest.Wait()
	offered := filepath.Join(w.disk.root, "offered.raw")
	copyFile(t, shop.image(t, "2.0.0", sc.b), offered)
	w.Prepare(cutAt, after)
	trial := Trial{Soak: 5 * time.Second, Deadline: 60 * time.Second, AllowReadOnlyUsr: true}
	id, err := w.daemon.service.Upgrade(context.Background(), fetch.Source{Path: "/offered.raw"}, trial)
	if err != nil && !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	op := w.settle(id, sc.cancelAt)
	w.check(sc, id, op)
	w.shutDown()
	return w
}

// stageBy puts an older extension in place.
func (w *world) stageBy(version string) {
	path := filepath.Join(w.disk.root, rescue.Dir, version+".raw")
	if err := hosttest.MkdirAll(filepath.Dir(path)); err != nil {
		w.t.Fatal(err)
	}
	copyFile(w.t, w.shop.image(w.t, version, healthy), path)
	link := os.Symlink("../trident/self/"+version+".raw", filepath.Join(w.disk.root, rescue.Link))
	if err := errors.Join(link, w.disk.enable()); err != nil {
		w.t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(data), 0o644)
}

// settle lets time pass, and powers on again after a cut, until nothing more
// happens by itself. It returns the operation, or nil if it was never begun.
func (w *world) settle(id, cancelAt string) *operation.Operation {
	for range 600 {
		time.Sleep(time.Second)
		synctest.Wait()
		w.Mu.Lock()
		on, p, watching := w.on, w.daemon, len(w.watching)
		w.Mu.Unlock()
		if !on {
			w.reap(p)
			w.goroutines.Wait()
			w.powerOn()
			continue
		}
		ops, err := w.disk.journal.List(context.Background(), 1, false)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(ops) == 0 {
			return nil
		}
		if cancelAt != "" && ops[0].Step == cancelAt && ops[0].Phase == operation.Doing && p != nil && p.runner != nil {
			if _, err := p.runner.Cancel(context.Background(), ops[0].ID); err == nil {
				cancelAt = ""
			}
		}
		if ops[0].Phase.Settled() && watching == 0 {
			return &ops[0]
		}
	}
	ops, _ := w.disk.journal.List(context.Background(), 1, false)
	w.t.Fatalf("never settled: %+v\ntouches: %v", ops, w.Trace)
	return nil
}

// check is what has to be true of the host at the end.
func (w *world) check(sc scenario, id string, op *operation.Operation) {
	t := w.t
	old := sc.from
	if old == "" {
		old = "1.0.0"
	}
	want, phase := old, operation.Phase("never begun")
	if op != nil {
		phase = op.Phase
		if phase != sc.want && !(sc.cancelAt != "" && phase == operation.Done) {
			t.Errorf("%s (%+v), want %s", phase, op.Failure, sc.want)
		}
	}
	if phase == operation.Done {
		want = "2.0.0"
	}
	if w.daemon == nil { // nothing unsettled brought it up; a client would
		w.startDaemon()
		time.Sleep(time.Second)
		synctest.Wait()
	}
	if v, err := w.version(context.Background()); v != want || err != nil {
		t.Fatalf("%s: version %q answers (%v), want %s\ntouches: %v", phase, v, err, want, w.Trace)
	}
	w.checkStatus(sc, want, op)
	w.checkLeftovers(want, op)
}

func (w *world) checkStatus(sc scenario, want string, op *operation.Operation) {
	t := w.t
	st, err := w.daemon.service.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	active := want
	if want == "1.0.0" {
		active = ""
	}
	if st.Running != want || st.Active != active || st.Merged != (active != "") || st.FromExtension != (active != "") || st.Operation != nil {
		t.Errorf("status %+v, want %s", st, want)
	}
	bad := sc.want == operation.Undone && sc.cancelAt == ""
	if op != nil && bad != (len(st.Blocked) == 1 && st.Blocked[0].Version == "2.0.0") {
		t.Errorf("blocked: %+v", st.Blocked)
	}
	if op == nil {
		return
	}
	if st.Last == nil || st.Last.Operation != op.ID || st.Last.Phase != op.Phase || st.Last.To != "2.0.0" {
		t.Errorf("last: %+v", st.Last)
	}
	if bad {
		if _, err := os.Stat(filepath.Join(w.disk.root, st.Last.Evidence, "journal.txt")); err != nil || st.Last.Failure == nil {
			t.Errorf("evidence: %v; failure %+v", err, st.Last.Failure)
		}
	}
	if has := slices.ContainsFunc(st.Images, func(i images.Image) bool { return i.Version == "2.0.0" }); has != (op.Phase == operation.Done) {
		t.Errorf("images: %+v", st.Images)
	}
}

func (w *world) checkLeftovers(want string, op *operation.Operation) {
	for _, path := range []string{bootUnitPath, bootWantsPath, filepath.Join(rescue.Dir, probeDir)} {
		if _, err := os.Lstat(filepath.Join(w.disk.root, path)); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("%s is left: %v", path, err)
		}
	}
	parts, err := filepath.Glob(filepath.Join(w.disk.root, rescue.Dir, "*.part*"))
	if err != nil || op != nil && len(parts) > 0 {
		w.t.Errorf("left in the store: %v %v", parts, err)
	}
	r, err := rescue.File{Dir: filepath.Join(w.disk.root, rescue.Dir)}.Read()
	if errors.Is(err, rescue.ErrNoTrial) {
		return
	}
	verdict := rescue.Returned
	if want == "2.0.0" {
		verdict = rescue.Kept
	}
	if err != nil || r.Verdict != verdict {
		w.t.Errorf("rescue record: %+v, %v", r, err)
	}
	if w.marked {
		w.t.Error("unsettled work is still marked")
	}
}

func (w *world) shutDown() {
	w.Mu.Lock()
	w.on = false
	p := w.daemon
	w.Mu.Unlock()
	w.reap(p)
	w.goroutines.Wait()
}
