package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/fat"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// This file compares the boot files of an image with its architecture. It reads FAT file
// systems only: firmware boots from them, and other file systems would have to be mounted.

// checkPrograms is CheckPrograms for an image that is not built yet.
func checkPrograms(s *image.Spec) error {
	for _, m := range s.Mounts {
		esp, err := openESP(s, m)
		if err != nil {
			return err
		}
		if err := checkLoaders(esp, s.Arch); err != nil {
			return fmt.Errorf("check the boot files of partition %d: %w", m.Number, err)
		}
	}
	return nil
}

// CheckPrograms returns an error if an image boots programs for another architecture than
// its metadata says. It unpacks the FAT file systems one after another into a temporary
// file.
func CheckPrograms(ctx context.Context, img *image.Image) error {
	for _, p := range img.Partitions() {
		if p.Filesystem == nil || p.HashTree || p.Filesystem.Type != "vfat" && p.Filesystem.Type != "msdos" {
			continue
		}
		if err := checkLoadersIn(ctx, p, img.Metadata().Arch); err != nil {
			return fmt.Errorf("%s: %w", p.File.Path, err)
		}
	}
	return nil
}

func checkLoadersIn(ctx context.Context, p image.Partition, arch image.Arch) (err error) {
	temp, err := os.CreateTemp("", "trident-esp-")
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	if err := os.Remove(temp.Name()); err != nil { // the open file stays usable
		return fmt.Errorf("unpack: %w", err)
	}
	if _, err := p.UnpackSparse(ctx, temp); err != nil {
		return err
	}
	esp, err := fat.Open(temp, p.File.Size)
	if errkind.Of(err) == errkind.Corrupt { // another file system than its metadata says
		return nil
	}
	if err != nil {
		return err
	}
	return checkLoaders(esp, arch)
}

// checkLoaders compares the boot files of an ESP with an architecture. Every unified kernel
// image must be for arch. Of the loaders in EFI/BOOT, which may be for several
// architectures, one must be for arch.
func checkLoaders(esp fs.FS, arch image.Arch) error {
	want := arch.Go()
	kernels, err := files(esp, "EFI/Linux", ".efi")
	if err != nil {
		return err
	}
	for _, name := range kernels {
		is, err := programOf(esp, name)
		if err != nil {
			return err
		}
		if is != "" && is != want {
			return otherArch(name, is, arch)
		}
	}
	loaders, err := files(esp, "EFI/BOOT", ".efi")
	if err != nil {
		return err
	}
	var foreign error
	for _, name := range loaders {
		if !strings.HasPrefix(strings.ToLower(path.Base(name)), "boot") {
			continue
		}
		is, err := programOf(esp, name)
		switch {
		case err != nil:
			return err
		case is == want:
			return nil
		case is != "" && foreign == nil:
			foreign = otherArch(name, is, arch)
		}
	}
	return foreign
}

func otherArch(name, is string, arch image.Arch) error {
	return errkind.WithHint(errkind.Errorf(errkind.Incompatible, "%s is a program for %s, and the image is for %s", name, is, arch),
		"Build the image for the architecture that its programs are for.")
}

func programOf(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	arch, err := filekind.ReadProgram(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return arch, nil
}
