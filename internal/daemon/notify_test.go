package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheWatchdogToleratesTwoFailedChecksAndFindsADeadDaemon(t *testing.T) {
	for _, c := range []struct {
		name  string
		vain  int // looks in a row that take their whole time and fail
		lives bool
	}{{"all is well", 0, true}, {"busy", 1, true}, {"very busy", 2, true}, {"dead", 1000, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 30 * time.Second
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				looks, last, longest := 0, time.Now(), time.Duration(0)
				look := func(ctx context.Context) error {
					if looks++; looks > 1 && looks <= 1+c.vain {
						ctx, cancel := context.WithTimeout(ctx, limit/3)
						defer cancel()
						<-ctx.Done()
						return errors.New("no answer")
					}
					return nil
				}
				feedWhile(ctx, limit, look, func() {
					longest, last = max(longest, time.Since(last)), time.Now()
				})
				longest = max(longest, time.Since(last))
				if lives := longest < limit; lives != c.lives {
					t.Errorf("%s without a sign of life, of %s", longest, limit)
				}
			})
		})
	}
}
