package selfservice

import (
	"context"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// paused begins an upgrade to 2.0.0 that pauses before a step, and waits for the pause.
func (w *world) paused(before string) (id string) {
	w.t.Helper()
	trial := quick
	trial.PauseBefore = before
	id, err := w.service().Upgrade(context.Background(), w.offer(w.shop.image(w.t, "2.0.0", healthy)), trial)
	if err != nil {
		w.t.Fatal(err)
	}
	w.awaitPause(id)
	return id
}

func (w *world) awaitPause(id string) {
	w.t.Helper()
	for {
		op, err := w.service().Runner.Get(context.Background(), id)
		if err != nil || op.Phase != operation.Doing {
			w.t.Fatalf("%+v, %v", op, err)
		}
		if op.Waiting == operation.Continue {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAnUpgradePausesAndGoesOnOrIsUndone(t *testing.T) {
	shop := newWorkshop(t)
	const unchanged, merged, restarted = "1.0.0 of 1.0.0, back to : 2.0.0", "1.0.0 of 1.0.0, back to base: 2.0.0*", "2.0.0 of 1.0.0, back to base: 2.0.0*"
	for _, point := range []struct{ name, step, now, restarted string }{
		{"before activate", PauseBeforeActivate, unchanged, unchanged},
		{"before restart", PauseBeforeRestart, merged, restarted}, // whatever starts the daemon starts the merged one
	} {
		for name, interrupt := range map[string]func(*world){
			"undisturbed":       func(*world) {},
			"the daemon killed": func(w *world) { w.killDaemon(); time.Sleep(5 * time.Second) },
			"the power cut": func(w *world) {
				w.Mu.Lock()
				w.cutPower()
				p := w.daemon
				w.Mu.Unlock()
				w.kill(p)
				w.powerOn()
				time.Sleep(time.Second)
			},
		} {
			t.Run(point.name+", "+name, func(t *testing.T) {
				on(t, shop, func(t *testing.T, w *world) {
					id := w.paused(point.step)
					w.expect(point.now)
					interrupt(w)
					w.awaitPause(id)
					if name == "undisturbed" {
						w.expect(point.now)
					} else {
						w.expect(point.restarted)
					}
					if _, err := w.service().Runner.Continue(context.Background(), id); err != nil {
						t.Fatal(err)
					}
					if op := w.end(id, nil); op.Phase != operation.Done {
						t.Fatalf("%s: %+v", op.Phase, op.Failure)
					}
					w.expect(restarted)
				})
			})
		}
		t.Run(point.name+", cancelled", func(t *testing.T) {
			on(t, shop, func(t *testing.T, w *world) {
				id := w.paused(point.step)
				if _, err := w.service().Runner.Cancel(context.Background(), id); err != nil {
					t.Fatal(err)
				}
				if op := w.end(id, nil); op.Phase != operation.Undone || op.Failure.Kind != errkind.Cancelled {
					t.Fatalf("%s: %+v", op.Phase, op.Failure)
				}
				w.expect("1.0.0 of 1.0.0, back to :")
			})
		})
	}
}

// Nobody needs to come: the deadline of the trial ends a pause after the activation.
func TestAPauseBeforeTheRestartEndsWithTheDeadline(t *testing.T) {
	shop := newWorkshop(t)
	on(t, shop, func(t *testing.T, w *world) {
		id := w.paused(PauseBeforeRestart)
		time.Sleep(2 * quick.Deadline)
		if _, err := w.service().Runner.Continue(context.Background(), id); err == nil {
			w.end(id, nil)
		}
		op, err := w.service().Runner.Get(context.Background(), id)
		if err != nil || op.Phase != operation.Undone {
			t.Fatalf("%+v, %v", op, err)
		}
		w.expect("1.0.0 of 1.0.0, back to :")
	})
}
