package boot_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// installed is a machine that runs 1 in A.
func installed(t *testing.T, fallback boot.Fallback) *machine {
	t.Helper()
	m := newMachine(t, &efivartest.Fake{}, fallback)
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "1")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A))
	m.comesUp(t, "installed", []boottest.Booted{one})
	return m
}

func (m *machine) do(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// files are the files on the ESP, each with what it is for.
func (m *machine) files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(m.ESP, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(m.ESP, name)
		text := string(data)
		if i := strings.LastIndexAny(text, "\x00"); i >= 0 {
			text = text[i+1:]
		}
		out[rel] = strings.TrimPrefix(text, "quiet")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (m *machine) write(t testing.TB, name string, data []byte) {
	t.Helper()
	name = filepath.Join(m.ESP, name)
	m.do(t, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644))
}

func (m *machine) text(t *testing.T, name string) string {
	t.Helper()
	text, err := efivar.LoaderText(m.Vars, name)
	m.do(t, err)
	return text
}

// order are the descriptions of what the firmware tries by itself.
func (m *machine) order(t *testing.T) string {
	t.Helper()
	order, err := efivar.BootOrder(m.Vars)
	entries, err2 := efivar.Entries(m.Vars)
	m.do(t, err, err2)
	var out []string
	for _, n := range order {
		for _, e := range entries {
			if e.Number == n {
				out = append(out, e.Description)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestFilesAreWhereUpstreamHasThem(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")))
	want := map[string]string{
		"EFI/AZLA/bootx64.efi": "for 1", "EFI/AZLA/mm.efi": "helper for 1",
		"EFI/AZLB/bootx64.efi": "for 2", "EFI/AZLB/mm.efi": "helper for 2",
		"EFI/BOOT/bootx64.efi": "for 1", "EFI/BOOT/mm.efi": "helper for 1",
		"EFI/Linux/vmlinuz-100-azla0.efi":                     "1kernel of 1",
		"EFI/Linux/vmlinuz-100-azla0.efi.extra.d/x.addon.efi": "addon of 1",
		"EFI/Linux/vmlinuz-0.efi.staged":                      "2kernel of 2",
		"EFI/Linux/vmlinuz-0.efi.staged.name":                 "vmlinuz-101-azlb0.efi",
		"EFI/Linux/vmlinuz-0.efi.staged.extra.d/x.addon.efi":  "addon of 2",
	}
	if diff := cmp.Diff(want, m.files(t)); diff != "" {
		t.Error(diff)
	}
	m.do(t, m.loader.Try(ctx, slot.B))
	for _, s := range []string{"", ".extra.d/x.addon.efi"} {
		want["EFI/Linux/vmlinuz-101-azlb0.efi"+s] = want["EFI/Linux/vmlinuz-0.efi.staged"+s]
		delete(want, "EFI/Linux/vmlinuz-0.efi.staged"+s)
	}
	delete(want, "EFI/Linux/vmlinuz-0.efi.staged.name")
	if diff := cmp.Diff(want, m.files(t)); diff != "" {
		t.Error(diff)
	}
	if got := m.text(t, efivar.EntryOneShot) + " " + m.text(t, efivar.EntryDefault); got != "vmlinuz-101-azlb0.efi vmlinuz-100-azla0.efi" {
		t.Error(got)
	}
	entries, err := efivar.Entries(m.Vars)
	m.do(t, err)
	at, file, ok := entries[1].Location()
	if at != partition || file != "/EFI/AZLB/bootx64.efi" || !ok || entries[1].Description != "AZLB" {
		t.Errorf("%+v", entries)
	}
	if n, ok, err := efivar.BootNext(m.Vars); n != entries[1].Number || !ok || err != nil {
		t.Errorf("BootNext is %v, %v, %v", n, ok, err)
	}
}

func TestTheFallbackIsOfTheSystemThatTheModeSays(t *testing.T) {
	t.Parallel()
	for mode, want := range map[boot.Fallback]string{
		boot.Conservative: "for 1, for 2, for 1", boot.Optimistic: "for 2, for 2, for 1", boot.Disabled: "mine, mine, mine",
	} {
		m := newMachine(t, &efivartest.Fake{}, mode)
		m.write(t, "EFI/BOOT/bootx64.efi", []byte("mine"))
		m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "1")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A))
		m.comesUp(t, "installed", []boottest.Booted{one})
		var got []string
		look := func() { got = append(got, m.files(t)["EFI/BOOT/bootx64.efi"]) }
		m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B))
		look()
		m.comesUp(t, "updated", []boottest.Booted{two})
		m.do(t, m.loader.Keep(ctx, slot.B))
		look()
		m.do(t, m.loader.Keep(ctx, slot.A)) // rolled back
		m.comesUp(t, "rolled back", []boottest.Booted{one})
		m.do(t, m.loader.Forget(ctx, slot.B))
		look()
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: %s; want %s", mode, s, want)
		}
	}
}

func TestEntriesOfOthersStayAndAnOldOneOfOursIsReplaced(t *testing.T) {
	t.Parallel()
	m := newMachine(t, &efivartest.Fake{}, boot.Conservative)
	gone := partition
	gone.Partition = gpt.GUID{9}
	other := efivar.NewLoadOption("Other", partition, "/EFI/other.efi")
	m.do(t,
		efivar.SetEntry(m.Vars, efivar.Entry{Number: 0, LoadOption: other}),
		efivar.SetEntry(m.Vars, efivar.Entry{Number: 5, LoadOption: efivar.NewLoadOption("AZLA", gone, "/EFI/AZLA/bootx64.efi")}),
		efivar.SetBootOrder(m.Vars, []efivar.Number{0, 5, 7}))
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "1")), m.loader.Try(ctx, slot.A))
	if got := m.order(t); got != "Other AZLA" {
		t.Errorf("on trial: %s", got)
	}
	m.do(t, m.loader.Keep(ctx, slot.A))
	m.comesUp(t, "installed", []boottest.Booted{one})
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B))
	if got := m.order(t); got != "AZLA Other AZLB" {
		t.Errorf("on trial: %s", got)
	}
	m.comesUp(t, "updated", []boottest.Booted{two})
	m.do(t, m.loader.Keep(ctx, slot.B))
	if got := m.order(t); got != "AZLB AZLA Other" {
		t.Errorf("kept: %s", got)
	}
	m.do(t, m.loader.Forget(ctx, slot.A))
	entries, err := efivar.Entries(m.Vars)
	order, err2 := efivar.BootOrder(m.Vars)
	m.do(t, err, err2)
	if len(entries) != 2 || !cmp.Equal(entries[0].LoadOption, other) || !cmp.Equal(order, []efivar.Number{1, 0, 7}) {
		t.Errorf("%+v, %v", entries, order)
	}
}

func TestAHostWithoutADefaultEntryDefaultsToTheRunningSlot(t *testing.T) {
	t.Parallel()
	for name, deflt := range map[string]string{"none": "", "a pattern": "*", "the last": "@saved", "one that is gone": "gone.efi"} {
		m := newMachine(t, &efivartest.Fake{}, boot.Conservative)
		m.write(t, "EFI/Linux/image.efi", boottest.UKI(boot.AMD64, "1"))
		m.write(t, "EFI/BOOT/bootx64.efi", boottest.Program(boot.AMD64))
		m.write(t, "EFI/AZLA/bootx64.efi", boottest.Program(boot.AMD64))
		runs := boottest.Booted{Uname: "1"}
		m.comesUp(t, name, []boottest.Booted{runs})
		m.do(t, efivar.SetLoaderText(m.Vars, efivar.EntryDefault, deflt))
		m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B))
		m.comesUp(t, name, []boottest.Booted{two})
		m.comesUp(t, name, []boottest.Booted{runs})
		if got := m.text(t, efivar.EntryDefault) + ", " + m.order(t); got != "image.efi, AZLA AZLB" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAForeignDefaultEntryStays(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, efivar.SetLoaderText(m.Vars, efivar.EntryDefault, "debian.conf"))
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.B))
	if got := m.text(t, efivar.EntryDefault); got != "debian.conf" {
		t.Error(got)
	}
}

func TestUpstreamsStagedFilesBelongToTheSlotOnTrial(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), os.Remove(filepath.Join(m.ESP, "EFI/Linux/vmlinuz-0.efi.staged.name")))
	if err := m.loader.Try(ctx, slot.A); errkind.Of(err) != errkind.Precondition {
		t.Errorf("tried over what runs: %v", err)
	}
	m.do(t, m.loader.Try(ctx, slot.B))
	m.comesUp(t, "updated", []boottest.Booted{two})
	m.isClean(t, "updated")
}

func TestStagedFilesOfOneSlotAreNotTriedForTheOther(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), m.loader.Try(ctx, slot.A))
	m.comesUp(t, "tried", []boottest.Booted{one})
	st, err := m.loader.Entries(ctx)
	if st.Staged != slot.B || err != nil {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestTryRefusesDamagedFilesOnTheESP(t *testing.T) {
	t.Parallel()
	for file, name := range map[string]string{"EFI/Linux/vmlinuz-0.efi.staged": "UpdateUki", "EFI/AZLB/bootx64.efi": "BootEntryCheck"} {
		m := installed(t, boot.Conservative)
		m.do(t, m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")), os.Truncate(filepath.Join(m.ESP, file), 300))
		if err := m.loader.Try(ctx, slot.B); errkind.Of(err) != errkind.Corrupt || errkind.Variant(err) != name {
			t.Errorf("%s: %v is %s", file, err, errkind.Variant(err))
		}
		m.comesUp(t, file, []boottest.Booted{one})
	}
}

func TestAFullESPIsOneErrorAndNothingIsChanged(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	before := m.files(t)
	boot.SetSpace(m.loader, 1<<20)
	err := m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2"))
	want := "stage boot files for AZLB: the ESP is full: the boot files need 2 MiB, and 1 MiB are free"
	if err == nil || err.Error() != want || errkind.Of(err) != errkind.NoSpace || errkind.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(before, m.files(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAWriteThatFailsLeavesNoHalfFile(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	h := m.host
	h.Touch = func(name string, change func() error) error {
		if err := change(); err != nil || name != "write EFI/Linux/vmlinuz-0.efi.staged.new" {
			return err
		}
		return syscall.ENOSPC
	}
	m.set(t, h)
	err := m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2"))
	if errkind.Of(err) != errkind.NoSpace || errkind.Variant(err) != "DeployESPImages" {
		t.Errorf("%v", err)
	}
	m.isClean(t, "after")
	m.comesUp(t, "after", []boottest.Booted{one})
}

func TestALinkOnTheESPLeadsNowhere(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	outside := t.TempDir()
	m.do(t, os.Symlink(outside, filepath.Join(m.ESP, "EFI/AZLB")))
	if err := m.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")); err == nil {
		t.Error("a link was followed")
	}
	if names, err := os.ReadDir(outside); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
}

func TestInstallsOnOneESPDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Disabled)
	first := m.files(t)
	h := m.host
	h.Index = 1
	m.set(t, h)
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "7")), m.loader.Try(ctx, slot.A))
	m.comesUp(t, "second", []boottest.Booted{{Slot: slot.A, Uname: "7"}})
	if _, ok := m.files(t)["EFI/Linux/vmlinuz-101-azla1.efi"]; !ok || m.order(t) != "AZLA AZL2A" {
		t.Errorf("%v, %s", m.files(t), m.order(t))
	}
	m.comesUp(t, "first", []boottest.Booted{one})
	m.do(t, m.loader.Forget(ctx, slot.A))
	if diff := cmp.Diff(first, m.files(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAStageThatIsCutShortLeavesNoHalfFile(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	for end, want := range map[error]errkind.Kind{context.Canceled: errkind.Cancelled, context.DeadlineExceeded: errkind.Timeout} {
		ended := &endsLater{Context: ctx, err: end, calls: 4}
		if err := m.loader.Stage(ended, slot.B, boottest.Payload(t, "2")); errkind.Of(err) != want || !errors.Is(err, end) {
			t.Errorf("%v is %s", err, errkind.Of(err))
		}
		m.isClean(t, "after")
		m.comesUp(t, "after", []boottest.Booted{one})
	}
}

// endsLater is a context that is over after so many looks at it.
type endsLater struct {
	context.Context
	err   error
	calls int
}

func (e *endsLater) Err() error {
	if e.calls--; e.calls >= 0 {
		return nil
	}
	return e.err
}

func TestAnEntryMayBeInOtherCaseOrAProfile(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	m.do(t, efivar.SetLoaderText(m.Vars, efivar.EntrySelected, "VMLINUZ-100-azla0.efi@2"))
	st, err := m.loader.Entries(ctx)
	if st.Booted != slot.A || err != nil {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestAnInstallThatIsGivenUpLeavesNoVariables(t *testing.T) {
	t.Parallel()
	m := newMachine(t, &efivartest.Fake{}, boot.Disabled)
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "1")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A), m.loader.Forget(ctx, slot.A))
	names, err := m.Vars.List()
	if len(names) != 0 || err != nil || len(m.files(t)) != 0 {
		t.Errorf("%v, %v, %v", names, m.files(t), err)
	}
}

func TestAHostThatCannotBeServicedIsRefused(t *testing.T) {
	t.Parallel()
	good := boot.Host{ESP: "/", Members: []efivar.HardDrive{partition}, Vars: &efivartest.Fake{}, Arch: boot.ARM64}
	with := func(change func(*boot.Host)) boot.Host {
		h := good
		change(&h)
		return h
	}
	if _, err := boot.New(boot.SystemdBoot, good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind boot.Kind
		host boot.Host
		want errkind.Kind
	}{
		"GRUB, no index":    {boot.Grub, with(func(h *boot.Host) { h.Index = -1 }), errkind.Invalid},
		"a loader":          {"lilo", good, errkind.Invalid},
		"an architecture":   {boot.SystemdBoot, with(func(h *boot.Host) { h.Arch = "riscv64" }), errkind.Unsupported},
		"no variables":      {boot.SystemdBoot, with(func(h *boot.Host) { h.Vars = nil }), errkind.Internal},
		"a negative index":  {boot.SystemdBoot, with(func(h *boot.Host) { h.Index = -1 }), errkind.Invalid},
		"an index too high": {boot.SystemdBoot, with(func(h *boot.Host) { h.Index = 1000 }), errkind.Invalid},
		"a fallback":        {boot.SystemdBoot, with(func(h *boot.Host) { h.Fallback = "brave" }), errkind.Invalid},
	} {
		if _, err := boot.New(c.kind, c.host); errkind.Of(err) != c.want || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The other install keeps the default of systemd-boot, EFI/BOOT and its place in the order.
func TestASecondInstallBySystemdBootLeavesTheFirstTheDefault(t *testing.T) {
	t.Parallel()
	m := installed(t, boot.Conservative)
	fallback := part(t, m, "EFI/BOOT")
	h := m.host
	h.Index, h.Beside = 1, true
	m.set(t, h)
	m.do(t, m.loader.Stage(ctx, slot.A, boottest.Payload(t, "3")), m.loader.Try(ctx, slot.A))
	three := boottest.Booted{Slot: slot.A, Uname: "3"}
	m.comesUp(t, "the trial", []boottest.Booted{three})
	m.comesUp(t, "after the trial", []boottest.Booted{one})
	m.do(t, m.loader.Keep(ctx, slot.A))
	m.comesUp(t, "kept", []boottest.Booted{one})
	if got := m.order(t); got != "AZLA AZL2A" {
		t.Errorf("the firmware's order is %s", got)
	}
	if diff := cmp.Diff(fallback, part(t, m, "EFI/BOOT")); diff != "" {
		t.Error(diff)
	}
}
