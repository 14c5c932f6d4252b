package selfservice

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheImageBeforeThePreviousOneStaysUntilTheGraceIsOver(t *testing.T) {
	shop := newWorkshop(t)
	const full = "4.0.0 of 1.0.0, back to 3.0.0: 2.0.0 3.0.0< 4.0.0* 5.0.0"
	const pruned = "4.0.0 of 1.0.0, back to 3.0.0: 3.0.0< 4.0.0* 5.0.0"
	for name, c := range map[string]struct {
		grace  time.Duration
		err    error
		later  time.Duration
		want   string // after the upgrade
		pruned string
	}{
		"no grace":           {0, nil, 0, pruned, pruned},
		"within the grace":   {time.Hour, nil, 50 * time.Minute, full, full},
		"after the grace":    {time.Hour, nil, 61 * time.Minute, full, pruned},
		"an unknown grace":   {0, errors.New("the file is damaged"), 24 * time.Hour, full, full},
		"a day, after a day": {24 * time.Hour, nil, 25 * time.Hour, full, pruned},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, shop)
				w.grace = func(context.Context) (time.Duration, error) { return c.grace, c.err }
				w.powerOn()
				w.startDaemon()
				synctest.Wait()
				w.end(w.service().Stage(t.Context(), w.offer(shop.image(t, "5.0.0", healthy)), false))
				for _, v := range []string{"2.0.0", "3.0.0", "4.0.0"} {
					w.upgraded(v)
				}
				w.expect(c.want)
				time.Sleep(c.later) // of the fake clock
				if err := w.service().PruneImages(t.Context()); !errors.Is(err, c.err) {
					t.Error(err)
				}
				w.expect(c.pruned)
				w.shutDown()
			})
		})
	}
}

func TestOnlyTheImageThatWasRetiredLastStays(t *testing.T) {
	shop := newWorkshop(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shop)
		w.grace = func(context.Context) (time.Duration, error) { return time.Hour, nil }
		w.powerOn()
		w.startDaemon()
		synctest.Wait()
		for _, v := range []string{"2.0.0", "3.0.0", "4.0.0", "5.0.0"} {
			w.upgraded(v)
		}
		w.expect("5.0.0 of 1.0.0, back to 4.0.0: 3.0.0 4.0.0< 5.0.0*")
		// The image is a way back: it can be activated, and then is not a retired one.
		trial := quick
		trial.AllowDowngrade = true
		w.end(w.service().Activate(t.Context(), "3.0.0", trial))
		w.expect("3.0.0 of 1.0.0, back to 5.0.0: 3.0.0* 4.0.0 5.0.0<")
		w.shutDown()
	})
}
