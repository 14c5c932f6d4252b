package osimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// vendorDir is the folder of the vendor on the ESP.
const vendorDir = "EFI/lab"

// grub2Config is a grub.cfg that leaves the kernels to the entries of the Boot Loader
// Specification. Only GRUB with patches of Fedora has the command blscfg.
const grub2Config = `set pager=1
if [ -f ${config_directory}/grubenv ]; then
	load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
	load_env
fi
set timeout=5
insmod blscfg
blscfg
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
`

// withEntries is withGrub for an image in the layout of Fedora. Besides the entry of its kernel
// the image has those of an older kernel and of a kernel for rescue, and neither of these kernels.
func (b *build) withEntries(ctx context.Context, initrd, esp string) error {
	boot, vendor := filepath.Join(b.tree, "boot"), filepath.Join(esp, vendorDir)
	entries, config := filepath.Join(boot, "loader/entries"), filepath.Join(boot, "grub2")
	for _, dir := range []string{vendor, entries, config} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	grub := filepath.Join(vendor, "grubx64.efi")
	if err := makeGrub(ctx, grub); err != nil {
		return err
	}
	const machine = "0123456789abcdef0123456789abcdef"
	texts := map[string]string{
		filepath.Join(vendor, "grub.cfg"): "search --no-floppy --fs-uuid --set=dev " + b.bootID().String() + "\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n",
		filepath.Join(config, "grub.cfg"): grub2Config,
		filepath.Join(config, "grubenv"):  "# GRUB Environment Block\nkernelopts=" + b.cmdline() + " lab.bls=1\nboot_success=1\n",
	}
	for id, release := range map[string]string{b.kernel: b.kernel, "5.10.0-1.lab": "5.10.0-1.lab", "0-rescue": "0-rescue-" + machine} {
		texts[filepath.Join(entries, machine+"-"+id+".conf")] = fmt.Sprintf("title Debian (%[1]s)\nversion %[1]s\nlinux /vmlinuz-%[1]s\ninitrd /initramfs-%[1]s.img\noptions $kernelopts\ngrub_users $grub_users\ngrub_class lab\n", release)
	}
	err := errors.Join(
		run(ctx, "cp", grub, filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI")),
		run(ctx, "cp", grub, filepath.Join(vendor, "shimx64.efi")),
		run(ctx, "cp", initrd, filepath.Join(boot, "initramfs-"+b.kernel+".img")),
	)
	for name, text := range texts {
		err = errors.Join(err, os.WriteFile(name, []byte(text), 0o644))
	}
	return err
}
