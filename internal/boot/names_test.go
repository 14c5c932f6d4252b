package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

func TestInstallsAreNamedAsUpstreamNamesThem(t *testing.T) {
	t.Parallel()
	for index, want := range map[int]slot.Pair[string]{
		0: {A: "AZLA", B: "AZLB"}, 1: {A: "AZL2A", B: "AZL2B"}, 999: {A: "AZL1000A", B: "AZL1000B"},
	} {
		if got := (slot.Pair[string]{A: label(index, slot.A), B: label(index, slot.B)}); got != want {
			t.Errorf("%d: %v", index, got)
		}
	}
}

func TestUKIsAreNamedAsUpstreamNamesThem(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]ukiName{
		"vmlinuz-100-azla0.efi":       {100, 0, slot.A},
		"VMLINUZ-1234-AZLB12.EFI":     {1234, 12, slot.B},
		"vmlinuz-999999999-azlb1.efi": {999999999, 1, slot.B},
	} {
		got, ok := parseUKIName(name)
		if !ok || got != want || got.String() != strings.ToLower(name) {
			t.Errorf("%s is %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "vmlinuz-100-azla0", "vmlinuz-100-azlc0.efi", "vmlinuz-100-azla.efi", "vmlinuz--1-azla0.efi", "vmlinuz-0100-azla0.efi",
		"vmlinuz-1000000000-azla0.efi", "vmlinuz-100-azla+1.efi", "x-vmlinuz-100-azla0.efi", "vmlinuz-100-azl.efi", "vmlinuz-0.efi.staged",
	} {
		if n, ok := parseUKIName(name); ok {
			t.Errorf("%q is %+v", name, n)
		}
	}
}

func TestTheFirstFreeIndexIsOneWithoutFoldersOfEitherSlot(t *testing.T) {
	t.Parallel()
	esp := t.TempDir()
	mkdir := func(names ...string) {
		for _, name := range names {
			if err := os.MkdirAll(filepath.Join(esp, "EFI", name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		dirs []string
		want int
	}{{nil, 0}, {[]string{"BOOT", "Linux", "azlb"}, 1}, {[]string{"AZL3A"}, 1}, {[]string{"AZL2A"}, 3}} {
		mkdir(step.dirs...)
		if n, err := FreeIndex(os.DirFS(esp)); n != step.want || err != nil {
			t.Errorf("with %v: %d, %v; want %d", step.dirs, n, err, step.want)
		}
	}
	for i := range maxIndex {
		mkdir(label(i, slot.A))
	}
	if _, err := FreeIndex(os.DirFS(esp)); errkind.NameOf(err).Variant != "NoAvailableInstallIndex" || errkind.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}
