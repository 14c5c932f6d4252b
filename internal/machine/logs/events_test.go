package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func numbers(t *testing.T, e *Events, id string, after uint64) (got []uint64, lost bool) {
	t.Helper()
	err := e.Send(t.Context(), id, after, false, func(event Event, isLost bool) error {
		lost = lost || isLost
		if isLost && len(got) > 0 {
			t.Error("not the first event says that others were lost")
		}
		got = append(got, event.Sequence)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, lost
}

func TestEventsAreNumberedAndResumed(t *testing.T) {
	booted := time.Now().Add(-time.Hour)
	e := NewEvents(t.Context(), "boot", booted, nil)
	e.Add(Event{Kind: UnitFailed, Subject: "a.service"})
	e.Add(Event{Kind: Mounted, Subject: "/mnt"})
	for _, c := range []struct {
		id    string
		after uint64
		want  []uint64
		lost  bool
	}{
		{"", 0, []uint64{1, 2, 3}, false}, {e.ID, 1, []uint64{2, 3}, false}, {e.ID, 3, nil, false},
		{"another daemon", 2, []uint64{1, 2, 3}, true}, {e.ID, 99, []uint64{1, 2, 3}, true},
	} {
		if got, lost := numbers(t, e, c.id, c.after); !slices.Equal(got, c.want) || lost != c.lost {
			t.Errorf("after %d of %q: %v, %t", c.after, c.id, got, lost)
		}
	}
	if events, _, _ := e.after(0); events[0].Kind != Booted || events[0].Subject != "boot" || !events[0].Time.Equal(booted) || events[1].Time.IsZero() {
		t.Errorf("%+v", events)
	}
}

func TestTheRingForgetsAndSaysSo(t *testing.T) {
	e := NewEvents(t.Context(), "boot", time.Now(), nil)
	for range 2 * maxEvents {
		e.Add(Event{Kind: Mounted})
	}
	if len(e.ring) != maxEvents || cap(e.ring) > 2*maxEvents {
		t.Errorf("the ring has %d of %d", len(e.ring), cap(e.ring))
	}
	if got, lost := numbers(t, e, e.ID, 5); len(got) != maxEvents || got[0] != maxEvents+2 || !lost {
		t.Errorf("%d events from %d on, %t", len(got), got[0], lost)
	}
	if got, lost := numbers(t, e, e.ID, maxEvents+1); len(got) != maxEvents || lost {
		t.Errorf("%d events, %t: nothing was lost", len(got), lost)
	}
	if got, lost := numbers(t, e, "", 0); len(got) != maxEvents || lost {
		t.Errorf("%d events, %t: nobody had a number", len(got), lost)
	}
}

// A caller that does not take an event does not hold up those who add events.
func TestASlowFollowerLosesEventsAndLearnsIt(t *testing.T) {
	e := NewEvents(t.Context(), "boot", time.Now(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	took, goOn, done := make(chan bool), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.Send(ctx, "", 0, true, func(_ Event, isLost bool) error {
			took <- isLost
			<-goOn
			return nil
		})
	}()
	<-took
	for range 3 * maxEvents {
		e.Add(Event{Kind: Mounted})
	}
	close(goOn)
	if !<-took {
		t.Error("nobody says that events were lost")
	}
	for range maxEvents - 1 {
		<-took
	}
	e.Add(Event{Kind: Mounted})
	if <-took {
		t.Error("nothing was lost")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAUnitThatFailsIsAnEvent(t *testing.T) {
	fake := &systemdtest.Fake{}
	fake.Define(systemdtest.Definition{Name: "bad.service", Start: "failed", Result: "exit-code"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := NewEvents(ctx, "boot", time.Now(), nil)
	watching := make(chan struct{})
	go watchUnits(ctx, ready{fake, watching}, e, func() {})
	<-watching
	_ = fake.Run(t.Context(), systemd.StartJob, "bad.service")
	err := e.Send(ctx, e.ID, 1, true, func(event Event, _ bool) error {
		if event.Kind != UnitFailed || event.Subject != "bad.service" {
			t.Errorf("%+v", event)
		}
		return errors.New("enough")
	})
	if err.Error() != "enough" {
		t.Error(err)
	}
}

// A caller who has an event knows that the watch has begun: what happens after it is not missed.
func TestTheFirstEventComesAfterTheWatchHasBegun(t *testing.T) {
	fake := &systemdtest.Fake{}
	fake.Define(systemdtest.Definition{Name: "bad.service", Start: "failed", Result: "exit-code"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := lateWatch{fake, make(chan struct{})}
	var e *Events
	e = NewEvents(ctx, "boot", time.Now(), func(ctx context.Context, ready func()) { Watch(ctx, "/", slow, e, ready) })
	taken := make(chan Event)
	go func() {
		_ = e.Send(ctx, "", 0, true, func(event Event, _ bool) error {
			taken <- event
			return nil
		})
	}()
	select {
	case event := <-taken:
		t.Errorf("%+v came before the watch", event)
	case slow.begins <- struct{}{}:
	}
	if event := <-taken; event.Kind != Booted {
		t.Errorf("%+v", event)
	}
	_ = fake.Run(t.Context(), systemd.StartJob, "bad.service")
	for event := range taken {
		if event.Kind == UnitFailed && event.Subject == "bad.service" {
			break
		}
	}
}

// Events that are remembered come although systemd does not answer.
func TestAWatchThatNeverBeginsHoldsEventsBackForATimeOnly(t *testing.T) {
	e := NewEvents(t.Context(), "boot", time.Now(), func(context.Context, func()) {})
	e.beginTime = time.Millisecond
	if got, _ := numbers(t, e, "", 0); !slices.Equal(got, []uint64{1}) {
		t.Errorf("%v", got)
	}
}

// lateWatch begins to watch when begins is received from.
type lateWatch struct {
	systemd.Jobs
	begins chan struct{}
}

func (l lateWatch) Failures(ctx context.Context, begun func(), failed func(string)) error {
	select {
	case <-l.begins:
	case <-ctx.Done():
	}
	return l.Jobs.Failures(ctx, begun, failed)
}

// ready says when the watch has begun.
type ready struct {
	systemd.Jobs
	begun chan struct{}
}

func (r ready) Failures(ctx context.Context, begun func(), failed func(string)) error {
	return r.Jobs.Failures(ctx, func() { begun(); close(r.begun) }, failed)
}

func TestMountsAreCompared(t *testing.T) {
	const root = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	before, err := parseMounts(root + "30 22 0:40 / /mnt/old rw - tmpfs tmpfs rw\n31 22 0:42 / /mnt/x rw - tmpfs one rw\n")
	if err != nil {
		t.Fatal(err)
	}
	now, err := parseMounts(root + `30 22 0:41 / /mnt/a\040b rw shared:2 master:3 - nfs4 server:/x\134y rw` + "\n31 22 0:42 / /mnt/x rw - tmpfs two rw\n")
	if err != nil {
		t.Fatal(err)
	}
	e := NewEvents(t.Context(), "boot", time.Now(), nil)
	compare(before, now, e)
	events, _, _ := e.after(1)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Kind == Mounted, " ", e.Subject, " ", e.Text))
	}
	slices.Sort(got)
	// The ID of a mount is used again for the next one, even at the same place.
	if want := []string{"false /mnt/old tmpfs, tmpfs", "false /mnt/x one, tmpfs", `true /mnt/a b server:/x\y, nfs4`, "true /mnt/x two, tmpfs"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := parseMounts("nonsense\n"); err == nil {
		t.Error("nonsense is a mount")
	}
	if here, err := mounts("/proc/self/mountinfo"); err != nil || len(here) == 0 {
		t.Errorf("%v, %v", here, err)
	}
}

func TestAWatchOfMountsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- watchMounts(ctx, "/proc/self/mountinfo", NewEvents(ctx, "b", time.Now(), nil), func() {})
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
