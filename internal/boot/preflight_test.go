package boot_test

import (
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/slot"
)

// mine is how much of an ESP the boot files of a system of these tests take, and with the
// slack that a host keeps.
const (
	mine  = 4 * 4096 // UKI, add-on, loader, helper
	again = 2 * 4096 // the loader and its helper as the fallback
	slack = 1 << 20
)

func TestPreflightFindsAFullESP(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B)) // B has files of its own, which go
	p := boottest.Payload(t, "3")
	for _, c := range []struct {
		free int64
		says string
	}{
		{slack + again, ""}, // B's own place is enough
		{slack + again - 1, "the ESP is full: the boot files need 2 MiB, and 1 MiB are free"},
		{0, "the ESP is full"},
	} {
		_, err := boot.Preflight(ctx, m.host, os.DirFS(m.ESP), boot.Space{Free: c.free, Block: 4096}, slot.B, p)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || errkind.Of(err) != errkind.NoSpace) {
			t.Errorf("%d bytes are free: %v, want %q", c.free, err, c.says)
		}
	}
	if _, err := boot.Preflight(ctx, m.host, os.DirFS(m.ESP), boot.Space{Free: 1 << 30, Block: 4096}, slot.A, p); errkind.Of(err) != errkind.Precondition {
		t.Errorf("the slot that runs: %v", err)
	}
}

// An installation that fits once and not twice is warned of: no update will ever fit.
func TestAnESPWithRoomForOneSystemCausesAWarning(t *testing.T) {
	t.Parallel()
	h := boot.Host{Vars: &efivartest.Fake{}, Arch: boot.AMD64, Members: []efivar.HardDrive{partition}}
	for free, warned := range map[int64]bool{slack + mine + again: true, 3 * slack: false} {
		warnings, err := boot.Preflight(ctx, h, os.DirFS(t.TempDir()), boot.Space{Free: free, Block: 4096}, slot.A, boottest.Payload(t, "1"))
		if err != nil || (len(warnings) > 0) != warned {
			t.Errorf("%d bytes: %v, %v", free, warnings, err)
		}
	}
}

// What Preflight lets pass, Stage, Try and Keep of a host with just that memory do, and
// with less it does not pass.
func TestPreflightFindsFullFirmwareMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range []boot.Kind{boot.SystemdBoot, boot.Grub} {
		for _, s := range []slot.Slot{slot.A, slot.B} {
			preflightKnowsMemory(t, kind, s)
		}
	}
}

func preflightKnowsMemory(t *testing.T, kind boot.Kind, s slot.Slot) {
	t.Helper()
	payload := func(uname string) *boot.Payload {
		if kind == boot.Grub {
			return grubPayload(t, s, uname)
		}
		return boottest.Payload(t, uname)
	}
	start := func() (*machine, *efivartest.Fake) {
		if s == slot.B {
			m := installed(t, boot.Conservative)
			if kind == boot.Grub {
				m = grubInstalled(t, boot.Conservative)
			}
			return m, m.Vars.(*efivartest.Fake)
		}
		vars := &efivartest.Fake{}
		return newMachineOf(t, kind, vars, boot.Conservative), vars
	}
	used := func(vars *efivartest.Fake) (sum int64) {
		names, err := vars.List()
		for _, n := range names {
			v, gerr := vars.Get(n)
			if err != nil || gerr != nil {
				t.Fatal(err, gerr)
			}
			sum += n.Cost(len(v.Data))
		}
		return sum
	}
	m, vars := start()
	need, err := boot.VariableNeed(ctx, m.host, os.DirFS(m.ESP), s, payload("1"))
	if err != nil {
		t.Fatal(err)
	}
	p, room := payload("9"), boot.Space{Free: 1 << 30, Block: 4096}
	vars.Memory = used(vars) + need - 1
	if _, err := boot.Preflight(ctx, m.host, os.DirFS(m.ESP), room, s, p); errkind.Of(err) != errkind.NoSpace || !strings.Contains(err.Error(), "the firmware's memory is full") {
		t.Errorf("%v, a byte less than needed: %v", s, err)
	}
	vars.Memory++
	if _, err := boot.Preflight(ctx, m.host, os.DirFS(m.ESP), room, s, p); err != nil {
		t.Errorf("%v, as much as needed: %v", s, err)
	}
	m.do(t, efivar.Probe(vars, need), m.loader.Stage(ctx, s, p), m.loader.Try(ctx, s), m.loader.Keep(ctx, s))
}
