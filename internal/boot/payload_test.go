package boot_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
)

func section(name, data string) boottest.Section { return boottest.Section{Name: name, Data: data} }

func TestReadUKIReturnsTheFactsOfAUKI(t *testing.T) {
	t.Parallel()
	for _, arch := range []boot.Arch{boot.AMD64, boot.ARM64} {
		data := boottest.UKI(arch, "6.12")
		got, err := boot.ReadUKI(bytes.NewReader(data), int64(len(data)))
		want := boot.UKI{Arch: arch, OSRelease: "ID=test\nPRETTY_NAME=\"Test 6.12\"", Cmdline: "quiet", Uname: "6.12"}
		if got != want || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range len(data) { // cut off anywhere
			if _, err := boot.ReadUKI(bytes.NewReader(data[:n]), int64(n)); err == nil {
				t.Errorf("the first %d bytes are a UKI", n)
			}
		}
	}
}

func TestReadUKIRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	osrel, linux := section(".osrel", "NAME=x"), section(".linux", "x")
	subsystem := boottest.Program(boot.AMD64, osrel, linux)
	subsystem[64+4+20+68] = 3 // console of Windows
	machine := boottest.Program(boot.AMD64, osrel, linux)
	machine[64+4], machine[64+5] = 0x4c, 0x01 // i386
	signed := boottest.Program(boot.AMD64, osrel, linux)
	signed[64+4+20+112+4*8+4] = 1
	signed[64+4+20+112+4*8+3] = 1 // a signature far behind the end
	for name, c := range map[string]struct {
		data []byte
		want errkind.Kind
	}{
		"nothing":             {nil, errkind.Corrupt},
		"text":                {[]byte(strings.Repeat("no program ", 100)), errkind.Corrupt},
		"no kernel":           {boottest.Program(boot.AMD64, osrel), errkind.Invalid},
		"an empty kernel":     {boottest.Program(boot.AMD64, osrel, section(".linux", "")), errkind.Invalid},
		"no system":           {boottest.Program(boot.AMD64, linux), errkind.Invalid},
		"a system, no title":  {boottest.Program(boot.AMD64, section(".osrel", "NAME=\"\"\nVERSION=1\n"), linux), errkind.Invalid},
		"a huge os-release":   {boottest.Program(boot.AMD64, section(".osrel", strings.Repeat("x", 64<<10+1)), linux), errkind.TooLarge},
		"another machine":     {machine, errkind.Incompatible},
		"another system":      {subsystem, errkind.Invalid},
		"a cut off signature": {signed, errkind.Corrupt},
	} {
		if _, err := boot.ReadUKI(bytes.NewReader(c.data), int64(len(c.data))); errkind.Of(err) != c.want || err == nil {
			t.Errorf("%s: %v is %s, want %s", name, err, errkind.Of(err), c.want)
		}
	}
}

func FuzzReadUKI(f *testing.F) {
	f.Add(boottest.UKI(boot.AMD64, "6.12"))
	f.Add(boottest.Program(boot.ARM64))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := boot.ReadUKI(bytes.NewReader(data), int64(len(data)))
		if err == nil && (u.Arch == "" || u.OSRelease == "") {
			t.Errorf("%+v", u)
		}
	})
}

func TestAnImageHasOneUKIAndABootLoader(t *testing.T) {
	t.Parallel()
	file := func(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data} }
	const uki, loader = "EFI/Linux/linux-1.efi", "EFI/BOOT/BOOTX64.EFI"
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		want   errkind.Kind // "" is none
		text   string
	}{
		"as it is":    {func(fstest.MapFS) {}, "", ""},
		"no addons":   {func(m fstest.MapFS) { delete(m, uki+".extra.d/x.addon.efi") }, "", ""},
		"other files": {func(m fstest.MapFS) { m["EFI/Linux/readme"] = file(nil); m["loader/x"] = file(nil) }, "", ""},
		"other case": {func(m fstest.MapFS) {
			m["efi/linux/LINUX-1.EFI"] = m[uki]
			m["efi/boot/bootx64.efi"] = m[loader]
			drop(m, "EFI/")
		}, "", ""},
		"no EFI/BOOT":       {func(m fstest.MapFS) { m["EFI/systemd/systemd-bootx64.efi"] = m[loader]; drop(m, "EFI/BOOT/") }, "", ""},
		"no UKI":            {func(m fstest.MapFS) { delete(m, uki) }, errkind.Invalid, "has 0 unified kernel images"},
		"two UKIs":          {func(m fstest.MapFS) { m["EFI/Linux/b.EFI"] = m[uki] }, errkind.Invalid, "has 2 unified kernel images"},
		"no ESP":            {func(m fstest.MapFS) { drop(m, "EFI/") }, errkind.Invalid, "has 0 unified"},
		"no boot loader":    {func(m fstest.MapFS) { drop(m, "EFI/BOOT/") }, errkind.NotFound, "it has no boot loader"},
		"a UKI for ARM":     {func(m fstest.MapFS) { m[uki] = file(boottest.UKI(boot.ARM64, "1")) }, errkind.Incompatible, "linux-1.efi: it is for arm64, and the host is amd64"},
		"a loader for ARM":  {func(m fstest.MapFS) { m[loader] = file(boottest.Program(boot.ARM64)) }, errkind.Incompatible, "BOOTX64.EFI: it is for arm64"},
		"a broken addon":    {func(m fstest.MapFS) { m[uki+".extra.d/x.addon.efi"] = file([]byte("x")) }, errkind.Corrupt, "x.addon.efi: read its header"},
		"too many files":    {func(m fstest.MapFS) { many(m, uki+".extra.d/", 64) }, errkind.TooLarge, "there may be 64"},
		"a link for a UKI":  {func(m fstest.MapFS) { m[uki] = &fstest.MapFile{Data: []byte("/etc/shadow"), Mode: fs.ModeSymlink} }, errkind.Invalid, "has 0 unified"},
		"a folder as a UKI": {func(m fstest.MapFS) { m[uki+"/x"] = m[uki]; delete(m, uki) }, errkind.Invalid, "has 0 unified"},
	} {
		esp := boottest.ESP(boot.AMD64, "1")
		c.change(esp)
		p, err := boot.Read(esp, boot.AMD64)
		switch {
		case c.want == "" && (err != nil || p.UKI().Uname != "1"):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || errkind.Of(err) != c.want || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: %v is %s; want %s, %s", name, err, errkind.Of(err), c.want, c.text)
		}
	}
	broken := errors.New("broken")
	if _, err := boot.Read(brokenFS{broken}, boot.AMD64); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type brokenFS struct{ error }

func (b brokenFS) Open(string) (fs.File, error) { return nil, b.error }

func drop(m fstest.MapFS, prefix string) {
	for name := range m {
		if strings.HasPrefix(name, prefix) {
			delete(m, name)
		}
	}
}

func many(m fstest.MapFS, prefix string, n int) {
	for i := range n {
		m[prefix+strings.Repeat("x", i+1)] = &fstest.MapFile{}
	}
}
