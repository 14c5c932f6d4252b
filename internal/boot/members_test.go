package boot_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// second is another member of the ESP, third replaces it.
var (
	second = efivar.HardDrive{Number: 1, Start: 2048, Size: 1 << 20, Partition: gpt.GUID{2, 2}}
	third  = efivar.HardDrive{Number: 1, Start: 2048, Size: 1 << 20, Partition: gpt.GUID{3, 3}}
)

// targets returns what the firmware boots in its order: the label of each entry and the
// first byte of its partition.
func targets(t *testing.T, vars efivar.Store) []string {
	t.Helper()
	order, err := efivar.BootOrder(vars)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := efivar.Entries(vars)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range order {
		for _, e := range entries {
			if disk, _, _ := e.Location(); e.Number == n {
				out = append(out, e.Description+string('0'+rune(disk.Partition[0])))
			}
		}
	}
	if len(out) != len(entries) {
		t.Errorf("%d entries, of which the order has %v", len(entries), out)
	}
	return out
}

// mirrored is a machine with an ESP of two members, whose slot A was installed.
func mirrored(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, &efivartest.Fake{}, boot.Conservative)
	m.host.Members = []efivar.HardDrive{partition, second}
	m.set(t, m.host)
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "1")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A))
	return m
}

func TestEachMemberOfTheESPHasABootEntry(t *testing.T) {
	t.Parallel()
	m := mirrored(t)
	if diff := cmp.Diff([]string{"AZLA1", "AZLA2"}, targets(t, m.host.Vars)); diff != "" {
		t.Error(diff)
	}
	if next, ok, err := efivar.BootNext(m.host.Vars); err != nil || !ok || !slices.Equal(order(t, m)[:1], []efivar.Number{next}) {
		t.Errorf("the next boot is %v, %v, %v, and not the first member", next, ok, err)
	}
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B))
	if diff := cmp.Diff([]string{"AZLA1", "AZLA2", "AZLB1", "AZLB2"}, targets(t, m.host.Vars)); diff != "" {
		t.Errorf("during a trial: %s", diff)
	}
	m.do(t, m.loader.Forget(ctx, slot.B))
	if diff := cmp.Diff([]string{"AZLA1", "AZLA2"}, targets(t, m.host.Vars)); diff != "" {
		t.Errorf("after the trial: %s", diff)
	}
}

func order(t *testing.T, m *machine) []efivar.Number {
	t.Helper()
	order, err := efivar.BootOrder(m.host.Vars)
	if err != nil {
		t.Fatal(err)
	}
	return order
}

func TestAReplacedMemberTakesThePlaceOfTheGoneOne(t *testing.T) {
	t.Parallel()
	m := mirrored(t)
	other, err := efivar.FreeNumber(m.host.Vars)
	if err != nil {
		t.Fatal(err)
	}
	network := efivar.Entry{Number: other, LoadOption: efivar.NewLoadOption("other", efivar.HardDrive{Partition: gpt.GUID{9}}, "/x.efi")}
	if err := efivar.SetEntry(m.host.Vars, network); err != nil {
		t.Fatal(err)
	}
	if err := efivar.SetBootOrder(m.host.Vars, append([]efivar.Number{other}, order(t, m)...)); err != nil {
		t.Fatal(err)
	}
	was := order(t, m)
	h := m.host
	h.Members = []efivar.HardDrive{partition, third}
	for range 2 {
		if err := boot.Reconcile(ctx, h, []string{second.Partition.String()}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"other9", "AZLA1", "AZLA3"}, targets(t, h.Vars)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(was, order(t, m)); diff != "" {
			t.Error(diff)
		}
	}
	h.Members = []efivar.HardDrive{partition}
	if err := boot.Reconcile(ctx, h, []string{third.Partition.String()}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"other9", "AZLA1"}, targets(t, h.Vars)); diff != "" {
		t.Errorf("the last member alone: %s", diff)
	}
	h.Members = []efivar.HardDrive{partition, second, third}
	if err := boot.Reconcile(ctx, h, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"other9", "AZLA1", "AZLA2", "AZLA3"}, targets(t, h.Vars)); diff != "" {
		t.Errorf("two new members: %s", diff)
	}
}
