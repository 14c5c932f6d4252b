package boot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/slot"
)

// A cut is a moment at which the power goes.
type cut string

const (
	before cut = "before"
	during cut = "during" // a file is written half; everything else is done or not
	after  cut = "after"
)

var errCut = errors.New("the power is cut")

// supply is the power of a machine. It is cut once.
type supply struct {
	machine *machine
	at      int
	how     cut
	touches int
	off     bool
}

func (p *supply) touch(name string, change func() error) error {
	if p.off {
		return errCut
	}
	p.touches++
	if p.touches != p.at {
		return change()
	}
	p.off = true
	if p.how == before {
		return errCut
	}
	err := change()
	if file, ok := strings.CutPrefix(name, "write "); ok && p.how == during {
		file = filepath.Join(p.machine.ESP, file)
		if info, statErr := os.Stat(file); statErr == nil {
			err = errors.Join(err, os.Truncate(file, info.Size()/2))
		}
	}
	return errors.Join(err, errCut)
}

// A scenario is a call, the host it is made on, and what may come up if the
// power goes while it is made: at the first start, and at each one after it.
type scenario struct {
	name    string
	prepare func(*machine) error
	call    func(boot.Loader) error
	first   []boottest.Booted
	then    []boottest.Booted
	// done comes up when the call was made in the end, forever what comes up then.
	done, forever boottest.Booted
}

var (
	ctx  = context.Background()
	none = boottest.Booted{}
	one  = boottest.Booted{Slot: slot.A, Uname: "1"}
	two  = boottest.Booted{Slot: slot.B, Uname: "2"}
	runs = boottest.Booted{Uname: "1"}
	four = boottest.Booted{Slot: slot.B, Uname: "4"}
)

func scenarios(t testing.TB, kind boot.Kind) []scenario {
	stage := func(s slot.Slot, uname string) func(boot.Loader) error {
		p := boottest.Payload(t, uname)
		if kind == boot.Grub {
			p = boottest.GrubPayload(t, boot.AMD64, s, uname)
		}
		return func(l boot.Loader) error { return l.Stage(ctx, s, p) }
	}
	try := func(s slot.Slot) func(boot.Loader) error {
		return func(l boot.Loader) error { return l.Try(ctx, s) }
	}
	keep := func(s slot.Slot) func(boot.Loader) error {
		return func(l boot.Loader) error { return l.Keep(ctx, s) }
	}
	forget := func(s slot.Slot) func(boot.Loader) error {
		return func(l boot.Loader) error { return l.Forget(ctx, s) }
	}
	start := func(boot.Loader) error { return nil }
	play := func(calls ...func(boot.Loader) error) func(*machine) error {
		return func(m *machine) error {
			for _, call := range calls {
				if err := call(m.loader); err != nil {
					return err
				}
				if _, err := m.Boot(); err != nil && !errors.Is(err, boottest.ErrDark) {
					return err
				}
			}
			return nil
		}
	}
	list := func(b ...boottest.Booted) []boottest.Booted { return b }
	installed := play(stage(slot.A, "1"), try(slot.A), keep(slot.A))
	// A is 1 and the default; B had 2, and was rolled back from.
	second := play(stage(slot.A, "1"), try(slot.A), keep(slot.A), stage(slot.B, "2"), try(slot.B), keep(slot.B), try(slot.A), keep(slot.A), start)
	with := func(prepare func(*machine) error, calls ...func(boot.Loader) error) func(*machine) error {
		return func(m *machine) error { return errors.Join(prepare(m), play(calls...)(m)) }
	}
	quiet := func(prepare func(*machine) error, call func(boot.Loader) error) func(*machine) error {
		return func(m *machine) error { return errors.Join(prepare(m), call(m.loader)) }
	}
	unnamed := func(prepare func(*machine) error) func(*machine) error { // as upstream stages
		return func(m *machine) error {
			return errors.Join(prepare(m), os.Remove(filepath.Join(m.ESP, "EFI/Linux/vmlinuz-0.efi.staged.name")))
		}
	}
	all := []scenario{
		{"stage an install", play(), stage(slot.A, "1"), list(none), list(none), none, none},
		{"try an install", play(stage(slot.A, "1")), try(slot.A), list(none, one), list(none, one), one, one},
		{"keep an install", quiet(play(stage(slot.A, "1")), try(slot.A)), keep(slot.A), list(one), list(one), one, one},
		{"give up an install", quiet(play(stage(slot.A, "1")), try(slot.A)), forget(slot.A), list(one, none), list(one, none), none, none},
		{"stage the first update", installed, stage(slot.B, "2"), list(one), list(one), one, one},
		{"try the first update", with(installed, stage(slot.B, "2")), try(slot.B), list(one, two), list(one), two, one},
		{"keep the first update", with(installed, stage(slot.B, "2"), try(slot.B)), keep(slot.B), list(one, two), list(one, two), two, two},
		{"give up what is staged", with(installed, stage(slot.B, "2")), forget(slot.B), list(one), list(one), one, one},
		{"give up what is on trial", quiet(with(installed, stage(slot.B, "2")), try(slot.B)), forget(slot.B), list(one, two), list(one), one, one},
		{"forget what was tried", with(installed, stage(slot.B, "2"), try(slot.B), start), forget(slot.B), list(one), list(one), one, one},
		{"stage over an old system", second, stage(slot.B, "4"), list(one), list(one), one, one},
		{"stage again", with(second, stage(slot.B, "2")), stage(slot.B, "4"), list(one), list(one), one, one},
		{"try over an old system", with(second, stage(slot.B, "4")), try(slot.B), list(one, four), list(one), four, one},
		{"try on a host that said nothing", with(silent(t, kind), stage(slot.B, "2")), try(slot.B), list(runs, two), list(runs), two, runs},
		{"keep on a host that said nothing", with(silent(t, kind), stage(slot.B, "2"), try(slot.B)), keep(slot.B), list(runs, two), list(runs, two), two, two},
		{"try an old system", second, try(slot.B), list(one, two), list(one), two, one},
		{"call off a trial", quiet(second, try(slot.B)), keep(slot.A), list(one, two), list(one), one, one},
		{"keep an old system", with(second, try(slot.B)), keep(slot.B), list(one, two), list(one, two), two, two},
		{"forget an old system", second, forget(slot.B), list(one), list(one), one, one},
	}
	if kind == boot.SystemdBoot {
		all = append(all, scenario{"try what upstream staged", unnamed(with(installed, stage(slot.B, "2"))), try(slot.B), list(one, two), list(one), two, one})
	}
	return all
}

// silent is a host that was made as an image: it boots the only thing there is.
func silent(t testing.TB, kind boot.Kind) func(*machine) error {
	return func(m *machine) error {
		if kind == boot.Grub {
			for name, f := range boottest.GrubESP(boot.AMD64, "1") {
				m.write(t, strings.Replace(strings.Replace(name, "BOOTX64.EFI", "bootx64.efi", 1), "vendor/grubx64-noprefix", "BOOT/grubx64", 1), f.Data)
			}
			m.write(t, "EFI/BOOT/grub.cfg", []byte(boottest.GrubConfig(0, "1")))
			nowhere := efivar.Entry{Number: 5, LoadOption: efivar.NewLoadOption("network", partition, "/missing.efi")}
			_, err := m.Boot()
			return errors.Join(err, efivar.SetEntry(m.Vars, nowhere), efivar.SetBootOrder(m.Vars, []efivar.Number{5}))
		}
		m.write(t, "EFI/Linux/image.efi", boottest.UKI(boot.AMD64, "1"))
		m.write(t, "EFI/Linux/image.efi.extra.d/x.addon.efi", boottest.Program(boot.AMD64))
		m.write(t, "EFI/BOOT/bootx64.efi", boottest.Program(boot.AMD64))
		_, err := m.Boot()
		return err
	}
}

// Wherever the power is cut, the old or the new system comes up, the new one at
// most once before it is kept; and made again, the call is done.
func TestABootLoaderSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	for _, kind := range []boot.Kind{boot.SystemdBoot, boot.Grub} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			cases := 0
			for _, sc := range scenarios(t, kind) {
				for f, fallback := range []boot.Fallback{boot.Conservative, boot.Optimistic, boot.Disabled} {
					touches := sc.play(t, kind, fallback, 0, after)
					for n := 1; n <= touches; n++ {
						for h, how := range []cut{before, during, after} {
							if cases++; !hosttest.InTurn(n + f + h) {
								continue
							}
							sc.play(t, kind, fallback, n, how)
						}
					}
				}
			}
			t.Logf("%d cases, a part of them in turn", cases)
			if cases < 500 {
				t.Errorf("%d cases only", cases)
			}
		})
	}
}

// play makes the call with the power cut at a touch, or not if at is 0. It
// returns the number of touches.
func (sc scenario) play(t *testing.T, kind boot.Kind, fallback boot.Fallback, at int, how cut) int {
	t.Helper()
	where := fmt.Sprintf("%s, %s, cut %s touch %d", sc.name, fallback, how, at)
	m := newMachineOf(t, kind, &efivartest.Fake{}, fallback)
	m.Forgets = true // which only GRUB minds
	if err := sc.prepare(m); err != nil {
		t.Fatalf("%s: prepare: %v", where, err)
	}
	plain := m.host
	p := &supply{machine: m, at: at, how: how}
	plain.Touch = p.touch
	m.set(t, plain)
	err := sc.call(m.loader)
	if p.off != (err != nil) || p.off && !errors.Is(err, errCut) {
		t.Fatalf("%s: %v", where, err)
	}
	if at > 0 {
		m.comesUp(t, where+", at once", sc.first)
		m.comesUp(t, where+", then", sc.then)
		m.comesUp(t, where+", and then", sc.then)
		m.set(t, m.host)
		if b, err := m.again(sc); err != nil {
			t.Fatalf("%s: made again with %+v: %v", where, b, err)
		}
	}
	m.comesUp(t, where+", when done", []boottest.Booted{sc.done})
	m.comesUp(t, where+", forever", []boottest.Booted{sc.forever})
	m.isClean(t, where)
	return p.touches
}

// again makes the call as the engine would after a power cut, on the system that
// is up, or on a live one from another medium for an install.
func (m *machine) again(sc scenario) (boot.State, error) {
	if strings.HasSuffix(sc.name, "an install") {
		err := errors.Join(
			efivar.SetLoaderText(m.Vars, efivar.EntrySelected, "vmlinuz-100-azla0.efi"),
			efivar.SetLoaderText(m.Vars, efivar.DevicePartID, "11111111-2222-3333-4444-555555555555"),
			m.Vars.Delete(efivar.Name{Name: "BootCurrent", Vendor: efivar.Global}))
		if err != nil {
			return boot.State{}, err
		}
	}
	st, err := m.loader.Entries(ctx)
	if err != nil {
		return st, err
	}
	return st, sc.call(m.loader)
}

func (m *machine) comesUp(t *testing.T, where string, may []boottest.Booted) {
	t.Helper()
	b, err := m.Boot()
	if err != nil && !errors.Is(err, boottest.ErrDark) {
		t.Fatalf("%s: %v", where, err)
	}
	for _, want := range may {
		if b == want {
			return
		}
	}
	t.Fatalf("%s: %+v came up, %v; want one of %+v", where, b, err, may)
}

// isClean checks that nothing half is left.
func (m *machine) isClean(t *testing.T, where string) {
	t.Helper()
	ukis := map[string]bool{}
	err := filepath.WalkDir(m.ESP, func(name string, d os.DirEntry, err error) error {
		base := d.Name()
		if strings.HasSuffix(base, ".new") {
			t.Errorf("%s: %s is left", where, name)
		}
		if strings.HasPrefix(base, "vmlinuz-") && strings.HasSuffix(base, ".efi") {
			ukis[base] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for uki := range ukis {
		addon, err := os.ReadFile(filepath.Join(m.ESP, "EFI/Linux", uki+".extra.d", "x.addon.efi"))
		if err != nil || !strings.Contains(string(addon), "addon of ") {
			t.Errorf("%s: %s has lost its addon: %v", where, uki, err)
		}
	}
	if len(ukis) > 2 {
		t.Errorf("%s: there are %v", where, ukis)
	}
}
