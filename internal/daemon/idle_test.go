package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
)

// sleeper returns a runner, and a function that begins an operation of a given
// length.
func sleeper(t *testing.T) (*operation.Runner, func(time.Duration)) {
	t.Helper()
	r := operation.New(t.Context(), operation.Config{Journal: operationtest.NewMemory(), Logger: slog.New(slog.DiscardHandler)})
	type record struct{ Length time.Duration }
	begin := operation.Register(r, operation.Kind[record]{Name: "sleep", Steps: []operation.Step[record]{{
		Name: "sleep", Do: func(_ context.Context, run *operation.Run[record]) error {
			time.Sleep(run.State.Length)
			return nil
		},
	}}})
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, func(d time.Duration) {
		if _, err := begin(t.Context(), "sleep", record{d}); err != nil {
			t.Error(err)
		}
	}
}

func TestIdleIsCountedFromTheLastCallOrOperation(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(i *idle, operate func(time.Duration))
		want time.Duration
	}{
		{"nobody ever calls", func(*idle, func(time.Duration)) {}, 5 * time.Minute},
		{"a call that ends", func(i *idle, _ func(time.Duration)) {
			end := i.begin()
			time.Sleep(time.Minute)
			end()
		}, 6 * time.Minute},
		{"an end that is told twice", func(i *idle, _ func(time.Duration)) {
			long := i.begin()
			end := i.begin()
			end()
			end()
			time.Sleep(20 * time.Minute)
			long()
		}, 25 * time.Minute},
		{"calls that overlap", func(i *idle, _ func(time.Duration)) {
			a := i.begin()
			time.Sleep(4 * time.Minute)
			b := i.begin()
			a()
			time.Sleep(10 * time.Minute)
			b()
		}, 19 * time.Minute},
		{"a short call late", func(i *idle, _ func(time.Duration)) {
			time.Sleep(5*time.Minute - 1)
			i.begin()()
		}, 10*time.Minute - 1},
		{"an operation that nobody watches", func(_ *idle, operate func(time.Duration)) { operate(time.Hour) }, 65 * time.Minute},
		{"a call that begins an operation", func(i *idle, operate func(time.Duration)) {
			end := i.begin()
			operate(time.Hour)
			end()
		}, 65 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, operate := sleeper(t)
				i, begun := newIdle(), time.Now()
				go c.do(i, operate)
				if err := i.wait(t.Context(), 5*time.Minute, r); err != nil || time.Since(begun) != c.want {
					t.Errorf("idle after %s, %v; want %s", time.Since(begun), err, c.want)
				}
				if err := r.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestADaemonWithoutIdleTimeoutStaysUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := sleeper(t)
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1000*time.Hour, func() { cancel(stopped) })
		if err := newIdle().wait(ctx, 0, r); !errors.Is(err, stopped) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMemoryIsReturnedToTheKernelOncePerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, freed := newIdle(), atomic.Int32{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go i.trim(ctx, 2*time.Second, func() { freed.Add(1) })
		expect := func(want int32, when string) {
			t.Helper()
			synctest.Wait()
			if n := freed.Load(); n != want {
				t.Errorf("%s: given back %d times, want %d", when, n, want)
			}
		}
		time.Sleep(time.Minute)
		expect(1, "nobody calls")
		end := i.begin()
		time.Sleep(time.Minute)
		expect(1, "during a call")
		end()
		time.Sleep(time.Second)
		i.begin()()
		time.Sleep(1900 * time.Millisecond)
		expect(1, "calls in quick succession")
		time.Sleep(200 * time.Millisecond)
		expect(2, "after them")
	})
}
