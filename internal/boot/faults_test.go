package boot_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/slot"
)

var errVars = errors.New("input/output error")

// faultyVars makes one call of the variables fail; 0: none.
type faultyVars struct {
	efivar.Store
	calls, at int
}

func (f *faultyVars) call() error {
	if f.calls++; f.calls == f.at {
		return errVars
	}
	return nil
}

func (f *faultyVars) Get(n efivar.Name) (efivar.Variable, error) {
	if err := f.call(); err != nil {
		return efivar.Variable{}, err
	}
	return f.Store.Get(n)
}

func (f *faultyVars) Set(n efivar.Name, v efivar.Variable) error {
	return errors.Join(f.call(), f.Store.Set(n, v))
}

func (f *faultyVars) Delete(n efivar.Name) error { return errors.Join(f.call(), f.Store.Delete(n)) }

func (f *faultyVars) List() ([]efivar.Name, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.Store.List()
}

// Whichever call of the firmware fails, the step fails with its cause, a system still boots,
// and the step can be repeated to the end.
func TestAFaultOfTheFirmwareEndsAStepThatCanBeRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range []boot.Kind{boot.SystemdBoot, boot.Grub} {
		for _, sc := range scenarios(t, kind) {
			t.Run(string(kind)+", "+sc.name, func(t *testing.T) {
				t.Parallel()
				m := newMachineOf(t, kind, &efivartest.Fake{}, boot.Conservative)
				m.do(t, sc.prepare(m))
				faulty := &faultyVars{Store: m.Vars}
				h := m.host
				h.Vars = faulty
				m.set(t, h)
				for at := 1; ; at++ {
					faulty.calls, faulty.at = 0, at
					err := sc.call(m.loader)
					if err == nil && faulty.calls < at {
						break
					}
					if !errors.Is(err, errVars) {
						t.Fatalf("a fault at call %d: %v", at, err)
					}
				}
				faulty.at = 0
				if st, err := m.loader.Entries(ctx); err != nil {
					t.Errorf("%+v, %v", st, err)
				}
				m.comesUp(t, "at the end", []boottest.Booted{sc.done})
			})
		}
	}
}

// A full ESP ends a step before anything boots by half a file, and the step can be repeated.
func TestAFullESPEndsAStepThatCanBeRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range []boot.Kind{boot.SystemdBoot, boot.Grub} {
		for _, sc := range scenarios(t, kind) {
			t.Run(string(kind)+", "+sc.name, func(t *testing.T) {
				t.Parallel()
				m := newMachineOf(t, kind, &efivartest.Fake{}, boot.Conservative)
				m.do(t, sc.prepare(m))
				changes, at := 0, 0
				h := m.host
				h.Touch = func(_ string, change func() error) error {
					if changes++; changes == at {
						return hosttest.ErrFull
					}
					return change()
				}
				m.set(t, h)
				for at = 1; ; at++ {
					changes = 0
					err := sc.call(m.loader)
					if err == nil && changes < at {
						break
					}
					if !errors.Is(err, hosttest.ErrFull) {
						t.Fatalf("change %d of a full ESP: %v", at, err)
					}
				}
				m.comesUp(t, "at the end", []boottest.Booted{sc.done})
			})
		}
	}
}

func TestAHostThatCannotHaveALoaderIsRefused(t *testing.T) {
	t.Parallel()
	whole := newMachine(t, &efivartest.Fake{}, boot.Conservative).host
	for says, change := range map[string]func(*boot.Host){
		"the caller named no EFI system partition":        func(h *boot.Host) { h.Members = nil },
		"gave no access to the variables of the firmware": func(h *boot.Host) { h.Vars = nil },
		`no boot files are known for architecture "mips"`: func(h *boot.Host) { h.Arch = "mips" },
		`"never" is not a UEFI fallback`:                  func(h *boot.Host) { h.Fallback = "never" },
		"install index -1 is not one of 0 to ":            func(h *boot.Host) { h.Index = -1 },
	} {
		h := whole
		change(&h)
		if _, err := boot.New(boot.SystemdBoot, h); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	h := whole
	h.ESP = "/no/such/folder"
	l, err := boot.New(boot.SystemdBoot, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Stage(ctx, slot.A, boottest.Payload(t, "1")); err == nil || !strings.Contains(err.Error(), "open the ESP: ") {
		t.Errorf("an ESP that is not mounted: %v", err)
	}
}
