package boot_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
	"github.com/trident-project/trident/internal/slot"
)

func grubPayload(t testing.TB, s slot.Slot, uname string) *boot.Payload {
	t.Helper()
	return boottest.GrubPayload(t, boot.AMD64, s, uname)
}

// grubInstalled is a machine that runs 1 in A.
func grubInstalled(t *testing.T, fallback boot.Fallback) *machine {
	t.Helper()
	m := newMachineOf(t, boot.Grub, &efivartest.Fake{}, fallback)
	m.do(t, m.loader.Stage(ctx, slot.A, grubPayload(t, slot.A, "1")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A))
	m.comesUp(t, "installed", []boottest.Booted{one})
	return m
}

func names(files map[string]string) string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestGrubHasAFolderForEachSlot(t *testing.T) {
	t.Parallel()
	m := grubInstalled(t, boot.Disabled)
	m.do(t, m.loader.Stage(ctx, slot.B, grubPayload(t, slot.B, "2")))
	const want = "EFI/AZLA/bootx64.efi EFI/AZLA/grub.cfg EFI/AZLA/grubx64.efi EFI/AZLA/mmx64.efi " +
		"EFI/AZLB/bootx64.efi EFI/AZLB/grub.cfg.staged EFI/AZLB/grubx64.efi EFI/AZLB/mmx64.efi"
	if diff := cmp.Diff(want, names(m.files(t))); diff != "" {
		t.Error(diff)
	}
	m.do(t, m.loader.Try(ctx, slot.B))
	if diff := cmp.Diff(strings.Replace(want, ".staged", "", 1), names(m.files(t))); diff != "" {
		t.Error(diff)
	}
	if got := m.order(t); got != "AZLA AZLB" {
		t.Errorf("during the trial the firmware's order is %s", got)
	}
	m.comesUp(t, "the trial", []boottest.Booted{two})
	m.do(t, m.loader.Keep(ctx, slot.B))
	if got := m.order(t); got != "AZLB AZLA" {
		t.Errorf("after the trial the firmware's order is %s", got)
	}
}

// Firmware may put a new boot entry anywhere, so an update uses the present one.
func TestAnUpdateByGrubReusesTheBootEntry(t *testing.T) {
	t.Parallel()
	m := grubInstalled(t, boot.Conservative)
	m.do(t, m.loader.Stage(ctx, slot.B, grubPayload(t, slot.B, "2")), m.loader.Try(ctx, slot.B))
	before, err := efivar.Entries(m.Vars)
	m.do(t, err)
	m.do(t, m.loader.Forget(ctx, slot.B))
	if got := m.order(t); got != "AZLA" {
		t.Errorf("the firmware's order leads to a slot without files: %s", got)
	}
	m.do(t, m.loader.Stage(ctx, slot.B, grubPayload(t, slot.B, "3")), m.loader.Try(ctx, slot.B))
	after, err := efivar.Entries(m.Vars)
	m.do(t, err)
	if diff := cmp.Diff(before, after); diff != "" || len(after) != 2 {
		t.Error(diff)
	}
}

// neighbour is a machine with another system, which the firmware boots by its first entry
// and by EFI/BOOT.
func neighbour(t *testing.T, hasOrder bool) *machine {
	t.Helper()
	m := newMachineOf(t, boot.Grub, &efivartest.Fake{}, boot.Conservative)
	for name, f := range boottest.GrubESP(boot.AMD64, "1") {
		m.write(t, filepath.Join("EFI/AZLA", strings.Replace(strings.ToLower(filepath.Base(name)), "-noprefix", "", 1)), f.Data)
	}
	m.write(t, "EFI/AZLA/grub.cfg", []byte(boottest.GrubConfig(0, "1")))
	m.do(t, os.CopyFS(filepath.Join(m.ESP, "EFI/BOOT"), os.DirFS(filepath.Join(m.ESP, "EFI/AZLA"))))
	if hasOrder {
		option := efivar.NewLoadOption("AZLA", partition, "/EFI/AZLA/bootx64.efi")
		m.do(t, efivar.SetEntry(m.Vars, efivar.Entry{Number: 7, LoadOption: option}), efivar.SetBootOrder(m.Vars, []efivar.Number{7}))
	}
	m.comesUp(t, "the neighbour", []boottest.Booted{runs})
	return m
}

// part is the content of the files of one folder of the ESP.
func part(t *testing.T, m *machine, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, text := range m.files(t) {
		if strings.HasPrefix(name, dir+"/") {
			out[name] = text
		}
	}
	return out
}

func TestAnInstallBesideAnotherLeavesItTheDefault(t *testing.T) {
	t.Parallel()
	for name, hasOrder := range map[string]bool{"by an entry": true, "by EFI/BOOT alone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := neighbour(t, hasOrder)
			m.Forgets = true
			fallback, own := part(t, m, "EFI/BOOT"), part(t, m, "EFI/AZLA")
			h := m.host
			var err error
			h.Index, err = boot.FreeIndex(os.DirFS(m.ESP))
			h.Beside = true
			m.do(t, err)
			m.set(t, h)
			m.do(t, m.loader.Stage(ctx, slot.A, grubPayload(t, slot.A, "3")))
			m.comesUp(t, "staged", []boottest.Booted{runs})
			m.do(t, m.loader.Try(ctx, slot.A))
			three := boottest.Booted{Slot: slot.A, Uname: "3"}
			m.comesUp(t, "the trial", []boottest.Booted{three})
			m.comesUp(t, "after the trial", []boottest.Booted{runs})
			if st, err := m.loader.Entries(ctx); err != nil || !hasOrder && st.Default.Valid() {
				t.Errorf("after the trial: %+v, %v", st, err)
			}
			m.do(t, m.loader.Try(ctx, slot.A))
			m.comesUp(t, "the second trial", []boottest.Booted{three})
			m.do(t, m.loader.Keep(ctx, slot.A))
			m.comesUp(t, "kept", []boottest.Booted{runs})

			h.Beside = false // an update of it later
			m.set(t, h)
			m.do(t, m.loader.Stage(ctx, slot.B, grubPayload(t, slot.B, "4")), m.loader.Try(ctx, slot.B))
			m.comesUp(t, "the update", []boottest.Booted{four})
			m.do(t, m.loader.Keep(ctx, slot.B))
			m.comesUp(t, "the update is kept", []boottest.Booted{runs})
			if st, err := m.loader.Entries(ctx); err != nil || st.Default != slot.B {
				t.Errorf("%+v, %v", st, err)
			}
			if got := m.order(t); !strings.HasSuffix(got, " AZL2B AZL2A") {
				t.Errorf("the firmware's order is %s", got)
			}
			if diff := cmp.Diff(fallback, part(t, m, "EFI/BOOT")) + cmp.Diff(own, part(t, m, "EFI/AZLA")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An installation that is not beside another is the default, whatever the host had before.
func TestAnInstallInPlaceOfAnotherIsTheDefault(t *testing.T) {
	t.Parallel()
	m := neighbour(t, true)
	h := m.host
	h.Index = 1
	m.set(t, h)
	m.do(t, m.loader.Stage(ctx, slot.A, grubPayload(t, slot.A, "3")), m.loader.Try(ctx, slot.A), m.loader.Keep(ctx, slot.A))
	if got := m.order(t); got != "AZL2A AZLA" {
		t.Errorf("the firmware's order is %s", got)
	}
}

func TestBootFilesOfGrubAreFoundOrRefused(t *testing.T) {
	t.Parallel()
	esp := func(change func(fstest.MapFS)) fstest.MapFS {
		files := boottest.GrubESP(boot.AMD64, "1")
		change(files)
		return files
	}
	const noPrefix = "EFI/vendor/grubx64-noprefix.efi"
	rename := func(to string) func(fstest.MapFS) {
		return func(f fstest.MapFS) { f[to] = f[noPrefix]; delete(f, noPrefix) }
	}
	for name, c := range map[string]struct {
		files   fs.FS
		anyGrub bool
		kind    errkind.Kind
		says    string
	}{
		"beside shim":        {files: esp(rename("EFI/BOOT/GRUBX64-NOPREFIX.EFI"))},
		"no noprefix":        {esp(rename("EFI/BOOT/grubx64.efi")), false, errkind.NotFound, "no folder of EFI has grubx64-noprefix.efi"},
		"any GRUB":           {files: esp(rename("EFI/BOOT/grubx64.efi")), anyGrub: true},
		"no GRUB":            {esp(func(f fstest.MapFS) { delete(f, noPrefix) }), true, errkind.NotFound, "grubx64-noprefix.efi or grubx64.efi"},
		"no shim":            {esp(func(f fstest.MapFS) { delete(f, "EFI/BOOT/BOOTX64.EFI") }), false, errkind.NotFound, "no EFI/BOOT/bootx64.efi"},
		"another machine":    {boottest.GrubESP(boot.ARM64, "1"), false, errkind.NotFound, "no EFI/BOOT/bootx64.efi"},
		"GRUB is cut off":    {esp(func(f fstest.MapFS) { f[noPrefix].Data = f[noPrefix].Data[:400] }), false, errkind.Corrupt, "grubx64.efi: "},
		"GRUB is for arm64":  {esp(func(f fstest.MapFS) { f[noPrefix].Data = boottest.Program(boot.ARM64) }), false, errkind.Incompatible, "grubx64.efi: it is for arm64"},
		"an ESP without EFI": {fstest.MapFS{}, false, errkind.NotFound, "no boot loader"},
	} {
		_, err := boot.ReadGrub(c.files, boot.AMD64, "", c.anyGrub)
		if (err == nil) != (c.says == "") || err != nil && (errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
	}
}

// Files of one boot loader are not staged by the other: two variables would then decide.
func TestALoaderRefusesTheFilesOfTheOther(t *testing.T) {
	t.Parallel()
	m, g := installed(t, boot.Conservative), grubInstalled(t, boot.Conservative)
	for _, err := range []error{
		m.loader.Stage(ctx, slot.B, grubPayload(t, slot.B, "2")),
		g.loader.Stage(ctx, slot.B, boottest.Payload(t, "2")),
	} {
		if errkind.Of(err) != errkind.Incompatible || !strings.Contains(err.Error(), "this install boots by") {
			t.Error(err)
		}
	}
}

func TestTheBootLoaderOfAnInstallIsKnownByItsFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files string
		index int
		want  boot.Kind
	}{
		"nothing":                       {"", 0, boot.SystemdBoot},
		"GRUB":                          {"EFI/AZLB/grub.cfg", 0, boot.Grub},
		"GRUB, staged":                  {"EFI/AZLA/grub.cfg.staged", 0, boot.Grub},
		"an image, GRUB":                {"EFI/BOOT/grub.cfg", 0, boot.Grub},
		"systemd-boot":                  {"EFI/AZLA/bootx64.efi", 0, boot.SystemdBoot},
		"systemd-boot, beside GRUB":     {"EFI/BOOT/grub.cfg EFI/Linux/vmlinuz-100-azla1.efi", 1, boot.SystemdBoot},
		"GRUB, beside systemd-boot":     {"EFI/Linux/vmlinuz-100-azla0.efi EFI/AZL2A/grub.cfg", 1, boot.Grub},
		"systemd-boot, with its folder": {"EFI/AZL2B/bootx64.efi EFI/AZLA/grub.cfg", 1, boot.SystemdBoot},
	} {
		files := fstest.MapFS{}
		for _, f := range strings.Fields(c.files) {
			files[f] = &fstest.MapFile{}
		}
		if got := boot.KindOf(files, c.index); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
