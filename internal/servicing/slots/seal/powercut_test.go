package seal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/luks/lukstest"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/servicing/slots/seal"
	"github.com/trident-project/trident/internal/slot"
)

// world is a machine with two slots, two encrypted volumes and a TPM.
type world struct {
	hosttest.Power
	t       *testing.T
	dead    bool
	fake    lukstest.Fake
	chip    tpmtest.Chip
	sealer  seal.Sealer
	volumes []seal.Volume
	to      seal.Registers

	boots    slot.Pair[*tpm.Boot] // the programs of each slot; nil for one that cannot boot
	next     slot.Slot            // boots next, by default
	runs     slot.Slot            // 0 for a live system
	journal  []byte               // what the journal has of the list
	recovery luks.Key
}

func newWorld(t *testing.T, s setup) *world {
	w := &world{t: t, to: s.to, recovery: luks.Key("recovery")}
	w.chip.PlainInitrd = s.plain
	w.sealer = seal.Sealer{Volumes: &w.fake, Chip: &w.chip, Touch: func(_ string, change func() error) error { return change() }}
	w.fake.Registers, w.fake.Touch, w.chip.Touch = w.chip.All, w.touch, w.touch
	for _, id := range []string{"data", "swap"} {
		v := seal.Volume{ID: id, Volume: luks.Volume{Device: "/dev/" + id, Name: id, UUID: id}}
		w.volumes = append(w.volumes, v)
	}
	if err := w.chip.Boot(tpmtest.NewBoot(t, "live", "live")); err != nil {
		t.Fatal(err)
	}
	return w
}

// touch is each write of a header, of the journal, and of the boot loader.
func (w *world) touch(name string, change func() error) error {
	return w.Touch(hosttest.Toucher{IsDead: func() bool { return w.dead }, Cut: func() { w.dead = true }}, name, change)
}

// book returns the list as a new daemon reads it.
func (w *world) book() seal.Book {
	var list []record.Sealed
	if len(w.journal) > 0 {
		if err := json.Unmarshal(w.journal, &list); err != nil {
			w.t.Fatal(err)
		}
	}
	return seal.Book{Sealed: &list, Save: func(context.Context) error {
		return w.touch("save", func() (err error) {
			w.journal, err = json.Marshal(list)
			return err
		})
	}}
}

func (w *world) run(err error) error {
	if err != nil && !errors.Is(err, hosttest.ErrDead) {
		w.t.Fatal(err)
	}
	return err
}

// boot boots the slot that is next. The boot needs the TPM, or the test fails.
func (w *world) boot() {
	w.t.Helper()
	w.dead = false
	w.fake.Reboot()
	w.mustUnlock(w.next)
	w.runs = w.next
	if err := w.chip.Boot(*w.boots.Of(w.next)); err != nil {
		w.t.Fatal(err)
	}
}

// mustUnlock fails the test if a boot of the slot would not open the volumes.
func (w *world) mustUnlock(in slot.Slot) {
	w.t.Helper()
	at, _ := registersOf(w.t, *w.boots.Of(in), w.chip.PlainInitrd)
	for _, v := range w.volumes {
		if !w.fake.Unlocks(v.Device, at) {
			head, err := w.fake.Header(w.t.Context(), v.Device)
			w.t.Fatalf("%s does not open for %s after %v: %+v, %v", v.ID, in, w.Trace, head, err)
		}
	}
}

// registersOf returns the registers of a boot when the volumes are opened, and when it is done.
func registersOf(t *testing.T, b tpm.Boot, plain bool) (unlock, ready map[int][]byte) {
	t.Helper()
	would := tpmtest.Chip{PlainInitrd: plain}
	if err := would.Boot(b); err != nil {
		t.Fatal(err)
	}
	log, err := would.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ready = would.All()
	return tpmtest.With(ready, log.Until(tpm.AfterUnlock).Replay()), ready
}

// install formats the volumes and seals them to slot A, from a live system.
func (w *world) install(boot tpm.Boot) error {
	ctx := w.t.Context()
	for _, v := range w.volumes {
		if err := w.fake.Format(ctx, v.Volume, w.recovery); err != nil {
			return err
		}
	}
	to, err := w.sealer.Predict(ctx, w.to, nil, boot)
	if err != nil {
		return err
	}
	if err := w.sealer.Seal(ctx, w.book(), w.volumes, slot.A, to, w.recovery); err != nil {
		return err
	}
	return w.touch("boot files", func() error {
		w.boots.A, w.next = &boot, slot.A
		return nil
	})
}

// stage makes the other slot unbootable, and bootable again with other programs.
func (w *world) stage(boot tpm.Boot) error {
	ctx, in := w.t.Context(), w.runs.Other()
	err := w.touch("forget", func() error {
		w.set(in, nil)
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.sealer.Forget(ctx, w.book(), w.volumes, in); err != nil {
		return err
	}
	to, err := w.sealer.Predict(ctx, w.to, w.boots.Of(w.runs), boot)
	if err != nil {
		return err
	}
	if err := w.sealer.TakeOver(ctx, w.book(), w.volumes, w.runs, w.to, w.recovery); err != nil {
		return err
	}
	key, err := w.key()
	if err != nil {
		return err
	}
	if err := w.sealer.Seal(ctx, w.book(), w.volumes, in, to, key); err != nil {
		return err
	}
	if err := w.sealer.DropPCRLock(ctx, w.volumes); err != nil {
		return err
	}
	return w.touch("boot files", func() error {
		w.set(in, &boot)
		return nil
	})
}

// key returns nil where the TPM has to open the volumes.
func (w *world) key() (luks.Key, error) {
	opens, err := w.sealer.Opens(w.t.Context(), w.volumes, w.to)
	if err != nil || opens {
		return nil, err
	}
	return w.recovery, nil
}

func (w *world) set(in slot.Slot, b *tpm.Boot) {
	if in == slot.A {
		w.boots.A = b
	} else {
		w.boots.B = b
	}
}

// undo makes the other slot unbootable, and removes its tokens.
func (w *world) undo() error {
	in := w.runs.Other()
	err := w.touch("forget", func() error {
		w.set(in, nil)
		return nil
	})
	if err != nil {
		return err
	}
	return w.sealer.Unseal(w.t.Context(), w.book(), w.volumes, in)
}

func (w *world) confirm() error {
	return w.sealer.Confirm(w.t.Context(), w.book(), w.volumes, w.runs, w.to)
}

// installed returns a world that runs from slot A.
func installed(t *testing.T, s setup) *world {
	w := newWorld(t, s)
	if err := w.install(tpmtest.NewBoot(t, "1", "a")); err != nil {
		t.Fatal(err)
	}
	w.boot()
	if err := w.confirm(); err != nil {
		t.Fatal(err)
	}
	return w
}

// cuts runs do in a new world with the power cut before and after each change, and check
// afterwards; do is called again until it ends.
func cuts(t *testing.T, prepare func(*testing.T) *world, do func(*world) error, check func(*world)) {
	t.Helper()
	w := prepare(t)
	w.Prepare(0, false)
	if err := do(w); err != nil {
		t.Fatal(err)
	}
	check(w)
	all := w.Touches
	if all < 3 {
		t.Fatalf("only %d changes", all)
	}
	cases := 0
	for at := 1; at <= all; at++ {
		for _, after := range []bool{false, true} {
			if cases++; !hosttest.InTurn(cases) {
				continue
			}
			w := prepare(t)
			w.Prepare(at, after)
			if err := do(w); !errors.Is(err, hosttest.ErrDead) {
				t.Fatalf("cut %d: %v", at, err)
			}
			if w.next.Valid() {
				w.boot()
			}
			w.dead = false
			w.Prepare(0, false)
			if err := w.run(do(w)); err != nil {
				t.Fatal(err)
			}
			check(w)
		}
	}
	t.Logf("%d cases, a part of them in turn", cases)
}

// setup is what a configuration binds to, and whether the initrd runs no systemd.
type setup struct {
	to    []int
	plain bool
}

var sets = [][]int{{7}, {11}, {4}, {7, 11}, {4, 7, 11}, {}}

func each(t *testing.T, run func(t *testing.T, s setup)) {
	for _, to := range sets {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, plain initrd=%v", to, plain), func(t *testing.T) {
				t.Parallel()
				run(t, setup{to, plain})
			})
		}
	}
}

// tokens fails the test if a volume has another number of tokens, or half a token.
func (w *world) tokens(want int) {
	w.t.Helper()
	for _, v := range w.volumes {
		head, err := w.fake.Header(w.t.Context(), v.Device)
		if err != nil || len(head.Tokens) != want || !slices.Equal(head.Bare(), []int{0}) {
			w.t.Fatalf("want %d tokens after %v: %+v, %v", want, w.Trace, head, err)
		}
	}
}

// staged returns how many tokens a slot has before its first boot: Trident does not know whether
// its initrd runs systemd.
func staged(to []int) int {
	if slices.Contains(to, tpm.UKIRegister) {
		return 6
	}
	return 1
}

// mixed returns how many tokens there are for boots with the loader of one slot and the kernel of
// the other.
func mixed(to []int) int {
	switch {
	case !slices.Contains(to, tpm.LoaderRegister):
		return 0
	case slices.Contains(to, tpm.UKIRegister):
		return 4
	}
	return 2
}

// mustUnlockMixed fails the test if the volumes would not open when a power cut has left the
// choice of one slot's loader and of the other slot's kernel.
func (w *world) mustUnlockMixed() {
	w.t.Helper()
	for _, b := range []tpm.Boot{{Loader: w.boots.A.Loader, UKI: w.boots.B.UKI}, {Loader: w.boots.B.Loader, UKI: w.boots.A.UKI}} {
		at, _ := registersOf(w.t, b, w.chip.PlainInitrd)
		for _, v := range w.volumes {
			if !w.fake.Unlocks(v.Device, at) {
				w.t.Fatalf("%s does not open for a mixed boot after %v", v.ID, w.Trace)
			}
		}
	}
}

// perSlot returns how many tokens a slot has that was booted.
func perSlot(to []int) int {
	if slices.Contains(to, tpm.UKIRegister) {
		return 3
	}
	return 1
}

// byAnother makes the live system of w one with Secure Boot, whose programs another certificate
// has verified than those of the installed system, so that register 7 has another value.
func byAnother(w *world) *world {
	const config = 0x80000001
	w.chip.Measure(tpmtest.Variable(config, "SecureBoot", "\x01"))
	return w
}

func TestPowerCutsWhileAnInstallationSeals(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(*world) *world{
		"of the same signer": func(w *world) *world { return w }, "of another signer": byAnother,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutInstallation(t, live)
		})
	}
}

func cutInstallation(t *testing.T, live func(*world) *world) {
	t.Helper()
	each(t, func(t *testing.T, s setup) {
		boot := tpmtest.NewBoot(t, "1", "a")
		cuts(t, func(t *testing.T) *world { return live(newWorld(t, s)) },
			func(w *world) error {
				if !w.next.Valid() { // else the installed system runs
					if err := w.install(boot); err != nil {
						return err
					}
					w.boot()
				}
				return w.confirm()
			},
			func(w *world) {
				w.boot()
				w.tokens(perSlot(s.to))
			})
	})
}

func TestPowerCutsWhileAnUpdateSeals(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		second, third := tpmtest.NewBoot(t, "2", "b"), tpmtest.NewBoot(t, "2", "c")
		prepare := func(t *testing.T) *world {
			w := installed(t, s)
			if err := w.stage(second); err != nil {
				t.Fatal(err)
			}
			w.next = slot.B
			w.boot()
			if err := w.confirm(); err != nil {
				t.Fatal(err)
			}
			return w
		}
		cuts(t, prepare, func(w *world) error { return w.stage(third) }, func(w *world) {
			w.mustUnlock(slot.A)
			w.mustUnlock(slot.B)
			shared := 0 // both slots give register 7 the same value
			if !slices.Contains(s.to, tpm.UKIRegister) && !slices.Contains(s.to, tpm.LoaderRegister) {
				shared = 1
			}
			otherInitrd := 0 // of the kernel of slot B: the loaders are the same, and both slots have its other tokens
			if slices.Contains(s.to, tpm.UKIRegister) && slices.Contains(s.to, tpm.LoaderRegister) {
				otherInitrd = 1
			}
			w.tokens(perSlot(s.to) + staged(s.to) - shared + otherInitrd)
		})
	})
}

func TestPowerCutsWhileAnUpdateIsUndone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		second := tpmtest.NewBoot(t, "2", "b")
		cuts(t, func(t *testing.T) *world {
			w := installed(t, s)
			if err := w.stage(second); err != nil {
				t.Fatal(err)
			}
			return w
		}, (*world).undo, func(w *world) {
			w.mustUnlock(slot.A)
			w.tokens(perSlot(s.to))
		})
	})
}

// An update that a power cut stopped is undone, not repeated.
func TestAnUpdateIsUndoneFromEveryPowerCut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		second := tpmtest.NewBoot(t, "2", "b")
		isCut := false
		cuts(t, func(t *testing.T) *world {
			isCut = false
			return installed(t, s)
		}, func(w *world) error {
			if !isCut {
				isCut = true
				if err := w.stage(second); err != nil {
					return err
				}
			}
			return w.undo()
		}, func(w *world) {
			w.mustUnlock(slot.A)
			w.tokens(perSlot(s.to))
		})
	})
}

// installedByUpstream returns a world that runs from slot A, by tokens of systemd-pcrlock.
func installedByUpstream(t *testing.T, s setup) *world {
	w := newWorld(t, s)
	boot := tpmtest.NewBoot(t, "1", "a")
	unlock, ready := registersOf(t, boot, s.plain)
	for _, v := range w.volumes {
		if err := w.fake.Format(t.Context(), v.Volume, w.recovery); err != nil {
			t.Fatal(err)
		}
		w.fake.AddPCRLock(v.Device, func(registers map[int][]byte) bool {
			return reflect.DeepEqual(registers, unlock) || reflect.DeepEqual(registers, ready)
		})
	}
	w.boots.A, w.next = &boot, slot.A
	w.boot()
	return w
}

func TestPowerCutsWhileAHostOfUpstreamIsTakenOver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		second := tpmtest.NewBoot(t, "2", "b")
		cuts(t, func(t *testing.T) *world { return installedByUpstream(t, s) }, func(w *world) error { return w.stage(second) }, func(w *world) {
			w.mustUnlock(slot.A)
			w.mustUnlock(slot.B)
			has, err := w.sealer.HasPCRLock(t.Context(), w.volumes)
			if has || err != nil {
				t.Errorf("a pcrlock token is left: %v", err)
			}
		})
	})
}

// Upstream's Trident binds the volumes of a host that boots by GRUB to register 7.
func TestATokenOfAnotherProgramForTheRunningSlotStays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		boot, second := tpmtest.NewBoot(t, "1", "a"), tpmtest.NewBoot(t, "2", "b")
		unlock, _ := registersOf(t, boot, s.plain)
		bound := luks.Binding{PCRs: map[int][]byte{}}
		for _, n := range s.to {
			bound.PCRs[n] = unlock[n]
		}
		isCut := false
		cuts(t, func(t *testing.T) *world {
			isCut = false
			w := newWorld(t, s)
			for _, v := range w.volumes {
				if err := w.fake.Format(t.Context(), v.Volume, w.recovery); err != nil {
					t.Fatal(err)
				}
				if _, err := w.fake.Enroll(t.Context(), v.Volume, w.recovery, bound); err != nil {
					t.Fatal(err)
				}
			}
			w.boots.A, w.next = &boot, slot.A
			w.boot()
			return w
		}, func(w *world) error {
			if !isCut {
				isCut = true
				if err := w.stage(second); err != nil {
					return err
				}
			}
			return w.undo()
		}, func(w *world) {
			w.mustUnlock(slot.A)
			w.tokens(1)
		})
	})
}

// The step "seal" is repeated alone: the steps before it are done.
func TestPowerCutsWhileASlotIsSealed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s setup) {
		second := tpmtest.NewBoot(t, "2", "b")
		cuts(t, func(t *testing.T) *world { return installed(t, s) }, func(w *world) error {
			next, err := w.sealer.Predict(t.Context(), w.to, w.boots.A, second)
			if err != nil {
				return err
			}
			key, err := w.key()
			if err != nil {
				return err
			}
			return w.sealer.Seal(t.Context(), w.book(), w.volumes, slot.B, next, key)
		}, func(w *world) {
			w.mustUnlock(slot.A)
			w.set(slot.B, &second)
			w.mustUnlock(slot.B)
			all := perSlot(s.to) + staged(s.to) + mixed(s.to)
			w.mustUnlockMixed()
			if !slices.Contains(s.to, tpm.UKIRegister) && !slices.Contains(s.to, tpm.LoaderRegister) {
				all = 1
			}
			w.tokens(all)
		})
	})
}
