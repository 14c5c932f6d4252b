package boot

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// grubFile returns the name under which shim looks for GRUB, beside itself.
func (a Arch) grubFile() string {
	return map[Arch]string{AMD64: "grubx64.efi", ARM64: "grubaa64.efi"}[a]
}

// noPrefix returns the name of a GRUB that reads the configuration beside itself. An ordinary
// GRUB has the folder of its configuration built in, so both slots would boot the same one.
func (a Arch) noPrefix() string { return strings.TrimSuffix(a.grubFile(), ".efi") + "-noprefix.efi" }

// ReadGrub finds the boot files in the ESP of an image that boots by GRUB: shim with its
// helpers in EFI/BOOT, and GRUB in any folder of EFI. GRUB must be one that reads the
// configuration beside itself, unless anyGrub is set. Stage reads the files again: their
// content must be verified, and must not change until then.
//
// config is the configuration for the slot. It may be "" for Preflight, not for Stage.
func ReadGrub(esp fs.FS, arch Arch, config string, anyGrub bool) (*Payload, error) {
	p, err := readGrub(esp, arch, anyGrub)
	if err != nil {
		return nil, prefix("read the image's ESP", err)
	}
	if len(config) > maxGrubConfig {
		return nil, errkind.Errorf(errkind.TooLarge, "the configuration of GRUB has %d bytes, and may have %d", len(config), maxGrubConfig)
	}
	p.config = config
	return p, nil
}

func readGrub(esp fs.FS, arch Arch, anyGrub bool) (*Payload, error) {
	_, files, err := list(esp, removable, maxSmall)
	if err != nil {
		return nil, err
	}
	shim := slices.IndexFunc(files, named(arch.bootFile()))
	if shim < 0 {
		return nil, errkind.Errorf(errkind.NotFound, "it has no boot loader: no %s/%s", removable, arch.bootFile())
	}
	grub, err := findGrub(esp, files, arch, anyGrub)
	if err != nil {
		return nil, err
	}
	grub.name = arch.grubFile()
	p := &Payload{kind: Grub, info: UKI{Arch: arch}, loader: []file{grub}}
	for i, f := range files {
		// No configuration of the image, and no GRUB but the one that was found.
		if i != shim && hasSuffix(f.name, ".efi") && !strings.HasPrefix(strings.ToLower(f.name), "grub") {
			p.loader = append(p.loader, f)
		}
	}
	start := files[shim]
	start.name = arch.bootFile()
	p.loader = append(p.loader, start) // last: it starts the others
	for _, f := range []file{grub, start} {
		if err := f.program(arch); err != nil {
			return nil, prefix(f.name, err)
		}
	}
	return p, nil
}

func named(name string) func(file) bool {
	return func(f file) bool { return strings.EqualFold(f.name, name) }
}

// findGrub returns GRUB from the files of EFI/BOOT, else from another folder of EFI.
func findGrub(esp fs.FS, files []file, arch Arch, anyGrub bool) (file, error) {
	names := []string{arch.noPrefix()}
	if anyGrub {
		names = append(names, arch.grubFile())
	}
	folders, err := fs.ReadDir(esp, efiDir)
	if err != nil {
		return file{}, err
	}
	for _, name := range names {
		if i := slices.IndexFunc(files, named(name)); i >= 0 {
			return files[i], nil
		}
		for _, d := range folders {
			if !d.IsDir() {
				continue
			}
			_, files, err := list(esp, path.Join(efiDir, d.Name()), maxSmall)
			if err != nil {
				return file{}, err
			}
			if i := slices.IndexFunc(files, named(name)); i >= 0 {
				return files[i], nil
			}
		}
	}
	err = errkind.Errorf(errkind.NotFound, "no folder of %s has %s", efiDir, strings.Join(names, " or "))
	if anyGrub {
		return file{}, err
	}
	return file{}, errkind.WithHint(err, "Install the package with it into the image (Azure Linux: grub2-efi-binary-noprefix). If %s has an empty prefix, set internalParams.disableGrubNoprefixCheck.", arch.grubFile())
}
