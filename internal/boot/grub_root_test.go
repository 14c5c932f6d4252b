//go:build root

package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/boot/grubcfg"
)

// A GRUB that grub-mkimage makes is one that Trident takes, and GRUB's own checker accepts the
// configuration that Trident writes.
func TestRealGrubIsTakenAndTakesTheConfiguration(t *testing.T) {
	for _, tool := range []string{"grub-mkimage", "grub-script-check"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("this machine has no %s", tool)
		}
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "grub.efi")
	must(t, "grub-mkimage", "-O", "x86_64-efi", "-p", "", "-o", program, "part_gpt", "fat", "ext2", "search", "search_fs_uuid", "normal", "linux", "minicmd")
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	kernel := grubcfg.Kernel{
		Linux: "vmlinuz-6.1", Initrds: []string{"initrd-6.1"},
		Args: []string{"root=PARTUUID=11111111-2222-3333-4444-555555555555", "a=b c", "quote='\"\\", "x=$y;{}|&<>#", "", "rd.break=ü"},
	}
	for _, folder := range []string{"/", "/boot"} {
		config, err := kernel.Config("11111111-2222-3333-4444-555555555555", folder)
		if err != nil {
			t.Fatal(err)
		}
		files := boottest.GrubESP(boot.AMD64, "1")
		files["EFI/vendor/grubx64-noprefix.efi"] = &fstest.MapFile{Data: data}
		if _, err := boot.ReadGrub(files, boot.AMD64, config, false); err != nil {
			t.Error(err)
		}
		name := filepath.Join(dir, "grub.cfg")
		if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("grub-script-check", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, config)
		}
	}
}
