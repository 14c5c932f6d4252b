//go:build root

package logs

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each change of the mounts is an event of its own, also when many follow each other.
func TestNoMountIsMissed(t *testing.T) {
	where := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e := NewEvents(ctx, "boot", time.Now(), nil)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- watchMounts(ctx, "/proc/self/mountinfo", e, func() { close(ready) }) }()
	<-ready
	taken := make(chan Event)
	go func() {
		_ = e.Send(ctx, "", 1, true, func(event Event, _ bool) error {
			if event.Subject == where {
				taken <- event
			}
			return nil
		})
	}()
	wait := func(n int, want EventKind) {
		t.Helper()
		select {
		case event := <-taken:
			if event.Kind != want {
				t.Fatalf("%d: %+v, want kind %d", n, event, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d: no event of kind %d", n, want)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(where, 0) })
	for n := range 100 {
		if err := unix.Mount("tmpfs", where, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		wait(n, Mounted)
		if err := unix.Unmount(where, 0); err != nil {
			t.Fatal(err)
		}
		wait(n, Unmounted)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
