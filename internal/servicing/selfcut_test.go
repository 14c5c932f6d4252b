package servicing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// bootRescuer is what starts the rescuer at boot while a new Trident is on trial.
const bootRescuer = "etc/systemd/system/multi-user.target.wants/trident-rescue.service"

// Wherever the power is cut in an update that brings a new Trident, the host ends
// with that and all else that the update brings, or with nothing of it.
func TestAnUpdateWithANewTridentSurvivesPowerCuts(t *testing.T) {
	g := newGallery(t)
	cases := 0
	for _, lies := range []bool{false, true} {
		t.Run(fmt.Sprintf("lies=%v", lies), func(t *testing.T) {
			touches := 0
			var rests map[int]bool
			t.Run("no cut", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := playSelf(t, g, lies, 0, false)
					touches, rests = w.Touches, w.Rests()
					t.Logf("touches: %s", strings.Join(w.Trace, ", "))
				})
			})
			for n := 1; n <= touches; n++ {
				// One that lies is as one that does not until it is tried, near the end.
				if lies && n < touches/3 {
					continue
				}
				for _, after := range []bool{false, true} {
					if !after && rests[n] && (!lies || n > touches/3) {
						continue // the same as after the change before
					}
					cases++
					if !hosttest.InTurn(cases) {
						continue
					}
					t.Run(fmt.Sprintf("cut at %d, after=%v", n, after), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { playSelf(t, g, lies, n, after) })
					})
				}
			}
		})
	}
	if cases < 60 {
		t.Errorf("%d cases only", cases)
	}
	t.Logf("%d cases", cases)
}

// playSelf updates a host that has the configuration file("one") to one with
// Trident 2.0.0 and the file "two", and checks where that has led.
func playSelf(t *testing.T, g *gallery, lies bool, cutAt int, after bool) *world {
	w := newWorld(t, g)
	w.powerOn()
	w.ask(file("one"), true, true)
	w.lies = lies
	w.Prepare(cutAt, after)
	config := w.parse(withTrident("two", g.trident2, g.app1))
	var op *operation.Operation
	for op == nil {
		id, err := w.daemon.service.Update(context.Background(), UpdateRequest{Config: config, Stage: true, Finalize: true})
		if err != nil && !w.daemon.dead {
			t.Fatal(err)
		}
		op = w.settleSelf(id)
	}
	w.checkSelf(op, lies)
	w.changes.Wait()
	w.stopDaemon()
	return w
}

// settleSelf is settle where daemons come and go. Nil is an operation that was
// never begun.
func (w *world) settleSelf(id string) *operation.Operation {
	ctx := context.Background()
	for range 1200 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		w.changes.Wait()
		if !w.on {
			w.stopDaemon()
			w.powerOn()
			if _, err := os.Lstat(filepath.Join(w.root, bootRescuer)); err == nil {
				time.AfterFunc(3*time.Second, w.witness)
			}
			continue
		}
		op, err := w.daemon.store.Load(ctx, id)
		if errkind.Of(err) == errkind.NotFound {
			return nil
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if op.Phase.Settled() {
			return &op
		}
	}
	w.t.Fatalf("never settled; touches: %v", w.Trace)
	return nil
}

func (w *world) checkSelf(op *operation.Operation, lies bool) {
	t := w.t
	t.Helper()
	want, version, content := operation.Done, "2.0.0", "two"
	if lies {
		want, version, content = operation.Undone, baseVersion, "one"
	}
	status := w.status()
	if op.Phase != want || w.version() != version || w.daemon.service.Version != version || w.text("etc/f") != content {
		t.Errorf("%s at %s, %+v: version %s is merged, %s runs, the file is %q\ntouches: %v",
			op.Phase, op.Reached, op.Failure, w.version(), w.daemon.service.Version, w.text("etc/f"), w.Trace)
	}
	if status.Phase != (hoststate.Settled{}) || status.SpecOld != "" || strings.Contains(status.Spec, w.gallery.trident2.sha) == lies || (status.LastError != nil) != lies {
		t.Errorf("the status is %+v, %+v", status, status.LastError)
	}
	blocked, err := w.daemon.store.Blocked(context.Background())
	if err != nil || len(blocked) == 1 != lies {
		t.Errorf("blocked: %+v, %v", blocked, err)
	}
	if _, err := os.Lstat(filepath.Join(w.root, bootRescuer)); err == nil {
		t.Error("the rescuer would be started at the next boot")
	}
	left, err := filepath.Glob(filepath.Join(w.root, change.Dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	w.checkStore(status)
}
