package mdtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/md"
)

// A Bench is a host for the suite.
type Bench struct {
	md.Manager
	md.Checker
	Devices []string // four of at least 64 MiB, which nobody uses
	// Fail makes a member faulty.
	Fail func(device string)
	// Settle waits until all members are in sync.
	Settle func()
}

// Suite tests what every Manager does.
func Suite(t *testing.T, open func(t *testing.T) *Bench) {
	mirror := func(b *Bench) md.Array {
		return md.Array{Name: "suite", Level: md.RAID1, UUID: md.UUID{1, 2, 3}, Members: b.Devices[:2]}
	}
	t.Run("an array is created, listed and stopped", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		st := b.only(t, mirror(b).UUID)
		if st.Name != "suite" || st.Level != md.RAID1 || st.Slots != 2 || len(st.Members) != 2 || st.Missing != 0 {
			t.Errorf("the array is %+v", st)
		}
		for range 2 {
			if err := b.Stop(t.Context(), st.UUID); err != nil {
				t.Fatal(err)
			}
		}
		if list, err := b.Arrays(t.Context()); err != nil || slices.ContainsFunc(list, func(s md.State) bool { return s.UUID == st.UUID }) {
			t.Errorf("after the stop the arrays are %+v, %v", list, err)
		}
	})
	t.Run("an array is created again over itself", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		b.create(t, mirror(b))
		b.only(t, mirror(b).UUID)
	})
	t.Run("a failed member is removed and replaced", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		b.Settle()
		id, bad, spare := mirror(b).UUID, b.Devices[1], b.Devices[2]
		b.Fail(bad)
		st := b.only(t, id)
		if i := slices.IndexFunc(st.Members, func(m md.Member) bool { return m.Device == bad }); st.Missing != 1 || i < 0 || !st.Members[i].Faulty {
			t.Fatalf("with a failed member the array is %+v", st)
		}
		for range 2 {
			if err := b.Remove(t.Context(), id, bad); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := b.Add(t.Context(), id, spare); err != nil {
				t.Fatal(err)
			}
		}
		b.Settle()
		if st := b.only(t, id); st.Missing != 0 || st.Action != "idle" || len(st.Members) != 2 {
			t.Errorf("after the repair the array is %+v", st)
		}
	})
	t.Run("a member that was removed is added again", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		b.Settle()
		id, bad := mirror(b).UUID, b.Devices[1]
		b.Fail(bad)
		if err := errors.Join(b.Remove(t.Context(), id, bad), b.Add(t.Context(), id, bad)); err != nil {
			t.Fatal(err)
		}
		b.Settle()
		if st := b.only(t, id); st.Missing != 0 {
			t.Errorf("the array is %+v", st)
		}
	})
	t.Run("a member in sync is not removed", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		b.Settle()
		if err := b.Remove(t.Context(), mirror(b).UUID, b.Devices[0]); errkind.Of(err) != errkind.Precondition {
			t.Errorf("it was: %v", err)
		}
	})
	t.Run("members are compared", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		b.Settle()
		if differ, err := b.Check(t.Context(), mirror(b).UUID); err != nil || differ != 0 {
			t.Errorf("%d bytes differ, %v", differ, err)
		}
		if _, err := b.Check(t.Context(), md.UUID{9}); errkind.Of(err) != errkind.NotFound {
			t.Errorf("an array that does not run: %v", err)
		}
	})
	t.Run("what does not run cannot grow, and loses nothing", func(t *testing.T) {
		b := open(t)
		if err := b.Add(t.Context(), md.UUID{9}, b.Devices[0]); errkind.Of(err) != errkind.NotFound {
			t.Errorf("add: %v", err)
		}
		if err := b.Remove(t.Context(), md.UUID{9}, b.Devices[0]); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	t.Run("a member of one array is not taken for another", func(t *testing.T) {
		b := open(t)
		b.create(t, mirror(b))
		other := md.Array{Name: "other", Level: md.RAID1, UUID: md.UUID{4}, Members: b.Devices[1:3]}
		if err := b.Create(t.Context(), other); errkind.Of(err) != errkind.Precondition {
			t.Errorf("create: %v", err)
		}
		b.only(t, mirror(b).UUID)
	})
}

func (b *Bench) create(t *testing.T, a md.Array) {
	t.Helper()
	if err := b.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Stop(ctx, a.UUID); err != nil {
			t.Error(err)
		}
	})
}

// only returns the one running array with that UUID.
func (b *Bench) only(t *testing.T, id md.UUID) md.State {
	t.Helper()
	list, err := b.Arrays(t.Context())
	list = slices.DeleteFunc(list, func(s md.State) bool { return s.UUID != id })
	if err != nil || len(list) != 1 {
		t.Fatalf("the arrays are %+v, %v", list, err)
	}
	return list[0]
}
