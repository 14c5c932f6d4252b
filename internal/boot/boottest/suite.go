package boottest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// World is a machine to run the suite on: for [boot.AMD64], install index 0,
// with an empty ESP and no variables.
type World struct {
	boot.Loader
	// Boot starts the machine, and returns the system that boots.
	Boot func() (Booted, error)
	// Fill fills the ESP, or frees its room again.
	Fill func(full bool)
	// Payload, if not nil, returns the boot files of a slot in place of those of [Payload],
	// and SlotName the slot's name in [boot.State].
	Payload  func(t testing.TB, arch boot.Arch, s slot.Slot, uname string) *boot.Payload
	SlotName func(s slot.Slot) string
}

func (w World) payload(t testing.TB, arch boot.Arch, s slot.Slot, uname string) *boot.Payload {
	if w.Payload == nil {
		return read(t, ESP(arch, uname), arch)
	}
	return w.Payload(t, arch, s, uname)
}

// Suite tests the rules of [boot.Loader]. start returns a world for one test.
func Suite(t *testing.T, start func(*testing.T) World) {
	for name, test := range map[string]func(*world){
		"a new host boots nothing, and has nothing to try or to keep": empty,
		"an install is tried, then kept":                              install,
		"an update is tried once, and boots by default when kept":     update,
		"an update that is not kept falls back, and can be replaced":  fallsBack,
		"what a slot had before is tried when nothing is staged":      rollback,
		"what runs, and the default, are never written or removed":    inUse,
		"a trial that is called off does not happen":                  calledOff,
		"what does not fit is refused, and changes nothing":           refusals,
		"doing a thing twice is doing it once":                        twice,
		"an install that is given up leaves nothing":                  givenUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&world{start(t), t})
		})
	}
}

type world struct {
	World
	*testing.T
}

// do fails the test if one of the calls has failed.
func (w *world) do(errs ...error) {
	w.Helper()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) stage(s slot.Slot, uname string) error {
	return w.Stage(context.Background(), s, w.payload(w, boot.AMD64, s, uname))
}
func (w *world) try(s slot.Slot) error    { return w.Try(context.Background(), s) }
func (w *world) keep(s slot.Slot) error   { return w.Keep(context.Background(), s) }
func (w *world) forget(s slot.Slot) error { return w.Forget(context.Background(), s) }

func (w *world) boots(s slot.Slot, uname string) {
	w.Helper()
	b, err := w.Boot()
	if want := (Booted{s, uname}); b != want || uname == "" && !errors.Is(err, ErrDark) || uname != "" && err != nil {
		w.Fatalf("%+v came up, %v; want %+v", b, err, want)
	}
}

func (w *world) kind(want errkind.Kind, err error) {
	w.Helper()
	if err == nil || errkind.Of(err) != want {
		w.Errorf("%v is %s, want %s", err, errkind.Of(err), want)
	}
}

func (w *world) state() boot.State {
	w.Helper()
	st, err := w.Entries(context.Background())
	w.do(err)
	return st
}

func (w *world) is(want boot.State) {
	w.Helper()
	if diff := cmp.Diff(want, w.state()); diff != "" {
		w.Error(diff)
	}
}

// installed makes A, with kernel 1, the only system, and boots it.
func (w *world) installed() {
	w.Helper()
	w.do(w.stage(slot.A, "1"), w.try(slot.A), w.keep(slot.A))
	w.boots(slot.A, "1")
}

// updated is installed, and then makes B, with kernel 2, the default and boots it.
func (w *world) updated() {
	w.Helper()
	w.installed()
	w.do(w.stage(slot.B, "2"), w.try(slot.B))
	w.boots(slot.B, "2")
	w.do(w.keep(slot.B))
}

// names returns the names of the slots for [boot.State], from the names of their UKIs.
func (w *world) names(a, b string) slot.Pair[string] {
	if w.SlotName != nil && a != "" {
		a = w.SlotName(slot.A)
	}
	if w.SlotName != nil && b != "" {
		b = w.SlotName(slot.B)
	}
	return slot.Pair[string]{A: a, B: b}
}

func empty(w *world) {
	w.boots(0, "")
	w.is(boot.State{})
	for _, s := range []slot.Slot{slot.A, slot.B} {
		w.kind(errkind.NotFound, w.try(s))
		w.kind(errkind.NotFound, w.keep(s))
		w.do(w.forget(s))
	}
	w.is(boot.State{})
}

func install(w *world) {
	w.do(w.stage(slot.A, "1"))
	w.is(boot.State{Staged: slot.A})
	w.boots(0, "")
	w.do(w.try(slot.A))
	trying := boot.State{Names: w.names("vmlinuz-100-azla0.efi", ""), Next: slot.A}
	trying.Default = w.state().Default // A may be: there is nothing else
	w.is(trying)
	w.boots(slot.A, "1")
	w.do(w.keep(slot.A))
	w.is(boot.State{Names: w.names("vmlinuz-100-azla0.efi", ""), Booted: slot.A, Default: slot.A})
	w.boots(slot.A, "1")
}

func update(w *world) {
	w.installed()
	w.do(w.stage(slot.B, "2"))
	w.boots(slot.A, "1")
	w.is(boot.State{Names: w.names("vmlinuz-100-azla0.efi", ""), Staged: slot.B, Booted: slot.A, Default: slot.A})
	w.do(w.try(slot.B))
	w.is(boot.State{Names: w.names("vmlinuz-100-azla0.efi", "vmlinuz-101-azlb0.efi"), Next: slot.B, Booted: slot.A, Default: slot.A})
	w.boots(slot.B, "2")
	w.do(w.keep(slot.B))
	w.boots(slot.B, "2")
	w.do(w.stage(slot.A, "3"), w.try(slot.A))
	w.boots(slot.A, "3")
	w.do(w.keep(slot.A))
	w.is(boot.State{Names: w.names("vmlinuz-102-azla0.efi", "vmlinuz-101-azlb0.efi"), Booted: slot.A, Default: slot.A})
	w.boots(slot.A, "3")
}

func fallsBack(w *world) {
	w.installed()
	w.do(w.stage(slot.B, "2"), w.try(slot.B))
	w.boots(slot.B, "2")
	w.boots(slot.A, "1")
	w.do(w.stage(slot.B, "3"))
	w.boots(slot.A, "1")
	w.do(w.try(slot.B))
	w.boots(slot.B, "3")
	w.boots(slot.A, "1")
	w.do(w.forget(slot.B))
	w.is(boot.State{Names: w.names("vmlinuz-100-azla0.efi", ""), Booted: slot.A, Default: slot.A})
	w.boots(slot.A, "1")
}

func rollback(w *world) {
	w.updated()
	w.do(w.try(slot.A))
	w.boots(slot.A, "1")
	w.boots(slot.B, "2")
	w.do(w.try(slot.A))
	w.boots(slot.A, "1")
	w.do(w.keep(slot.A))
	w.boots(slot.A, "1")
}

func inUse(w *world) {
	w.updated()
	before := w.state()
	w.kind(errkind.Precondition, w.stage(slot.B, "3"))
	w.kind(errkind.Precondition, w.forget(slot.B))
	w.is(before)
	w.do(w.try(slot.A))
	w.boots(slot.A, "1") // on trial: B is the default
	for _, s := range []slot.Slot{slot.A, slot.B} {
		w.kind(errkind.Precondition, w.stage(s, "3"))
		w.kind(errkind.Precondition, w.forget(s))
	}
	w.boots(slot.B, "2")
}

func calledOff(w *world) {
	w.updated()
	w.do(w.try(slot.A), w.keep(slot.B))
	w.boots(slot.B, "2")
	w.do(w.stage(slot.A, "3"), w.try(slot.A), w.forget(slot.A))
	w.boots(slot.B, "2")
	w.do(w.stage(slot.A, "4"), w.try(slot.A), w.stage(slot.A, "5")) // the last Stage ends the trial
	w.boots(slot.B, "2")
}

func refusals(w *world) {
	w.installed()
	before := w.state()
	w.kind(errkind.Incompatible, w.Stage(context.Background(), slot.B, w.payload(w, boot.ARM64, slot.B, "2")))
	w.Fill(true)
	w.kind(errkind.NoSpace, w.stage(slot.B, "2"))
	w.Fill(false)
	w.kind(errkind.Internal, w.stage(0, "2"))
	w.kind(errkind.Internal, w.try(0))
	w.kind(errkind.Internal, w.keep(0))
	w.kind(errkind.Internal, w.forget(0))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.kind(errkind.Cancelled, w.Stage(ctx, slot.B, w.payload(w, boot.AMD64, slot.B, "2")))
	w.kind(errkind.Cancelled, w.Try(ctx, slot.A))
	_, err := w.Entries(ctx)
	w.kind(errkind.Cancelled, err)
	w.is(before)
	w.boots(slot.A, "1")
}

func twice(w *world) {
	w.installed()
	w.do(w.stage(slot.B, "2"), w.stage(slot.B, "2"), w.try(slot.B), w.try(slot.B))
	w.boots(slot.B, "2")
	w.do(w.try(slot.B)) // as after a power cut, before the caller knew that the slot had booted
	w.boots(slot.B, "2")
	w.boots(slot.A, "1")
	w.do(w.try(slot.B))
	w.boots(slot.B, "2")
	w.do(w.keep(slot.B), w.keep(slot.B))
	w.do(w.forget(slot.A), w.forget(slot.A))
	w.is(boot.State{Names: w.names("", "vmlinuz-101-azlb0.efi"), Booted: slot.B, Default: slot.B})
	w.boots(slot.B, "2")
}

func givenUp(w *world) {
	for range 2 {
		w.do(w.stage(slot.A, "1"), w.forget(slot.A))
		w.is(boot.State{})
		w.do(w.stage(slot.A, "1"), w.try(slot.A), w.keep(slot.A), w.forget(slot.A))
		w.is(boot.State{})
		w.boots(0, "")
	}
}
