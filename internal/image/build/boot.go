package build

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/fat"
)

// findBootloader returns the boot loader of the given type, or systemd-boot for "", with the
// boot entries in the FAT file systems that have a mount point.
func findBootloader(s *image.Spec, bootloader string) (b image.Bootloader, err error) {
	b.Type = bootloader
	switch b.Type {
	case image.GRUB:
		return b, nil
	case image.SystemdBoot, "":
	default:
		return b, errkind.Errorf(errkind.Invalid, "--bootloader is %q, it must be %s or %s", b.Type, image.SystemdBoot, image.GRUB)
	}
	var ukis, configs []image.BootEntry
	for _, m := range s.Mounts {
		esp, err := openESP(s, m)
		if err != nil || esp == nil {
			return b, err
		}
		u, err := findUKIs(esp, m.MountPoint)
		if err != nil {
			return b, fmt.Errorf("read the boot entries of partition %d: %w", m.Number, err)
		}
		c, err := findConfigs(esp, m.MountPoint)
		if err != nil {
			return b, fmt.Errorf("read the boot entries of partition %d: %w", m.Number, err)
		}
		ukis, configs = append(ukis, u...), append(configs, c...)
	}
	if len(ukis)+len(configs) > 0 {
		b.Type, b.SystemdBoot = image.SystemdBoot, &image.SystemdBootSet{Entries: append(ukis, configs...)}
		return b, nil
	}
	err = errkind.Errorf(errkind.Invalid, "systemd-boot has no boot entry: no FAT file system with a mount point has EFI/Linux/*.efi or loader/entries/*.conf")
	return b, errkind.WithHint(err, "Give the ESP a mount point, or --bootloader grub.")
}

// noFiles stands for a file system that firmware cannot read.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func openESP(s *image.Spec, m image.Mount) (fs.FS, error) {
	r, err := image.OpenPartition(s.Disk, s.DiskSize, m.Number)
	if err != nil {
		return nil, err
	}
	esp, err := fat.Open(r, r.Size())
	if errkind.Of(err) == errkind.Corrupt {
		return noFiles{}, nil
	}
	return esp, err
}

// files returns the paths of the files in dir that end in suffix; none if dir does not exist.
func files(fsys fs.FS, dir, suffix string) ([]string, error) {
	list, err := fs.ReadDir(fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range list {
		if !e.IsDir() && strings.HasSuffix(strings.ToLower(e.Name()), suffix) {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// findUKIs reads the unified kernel images where systemd-boot looks for them
// (Boot Loader Specification, type 2).
func findUKIs(esp fs.FS, mount string) ([]image.BootEntry, error) {
	names, err := files(esp, "EFI/Linux", ".efi")
	if err != nil {
		return nil, err
	}
	var out []image.BootEntry
	for _, name := range names {
		uki, err := readUKI(esp, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, image.BootEntry{Type: image.UKIStandalone, Path: path.Join(mount, name), Cmdline: uki.Cmdline, Kernel: uki.Uname})
	}
	return out, nil
}

func readUKI(esp fs.FS, name string) (boot.UKI, error) {
	f, err := esp.Open(name)
	if err != nil {
		return boot.UKI{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return boot.UKI{}, err
	}
	return boot.ReadUKI(f.(io.ReaderAt), info.Size())
}

// findConfigs reads loader/entries (Boot Loader Specification, type 1).
func findConfigs(esp fs.FS, mount string) ([]image.BootEntry, error) {
	names, err := files(esp, "loader/entries", ".conf")
	if err != nil {
		return nil, err
	}
	var out []image.BootEntry
	for _, name := range names {
		text, err := fs.ReadFile(esp, name)
		if err != nil {
			return nil, err
		}
		fields := map[string][]string{}
		for row := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(strings.ReplaceAll(row, "\t", " ")), " "); ok {
				fields[key] = append(fields[key], strings.TrimSpace(value))
			}
		}
		e := image.BootEntry{
			Type: image.EntryConfig, Path: path.Join(mount, name),
			Cmdline: strings.Join(fields["options"], " "), Kernel: strings.Join(fields["version"], " "),
		}
		if program := append(fields["uki"], fields["efi"]...); len(program) > 0 {
			e.Type = image.UKIConfig
			if uki, err := readUKI(esp, strings.TrimPrefix(path.Clean(program[0]), "/")); err == nil {
				e.Cmdline, e.Kernel = cmp.Or(e.Cmdline, uki.Cmdline), cmp.Or(e.Kernel, uki.Uname)
			} else if len(fields["uki"]) == 0 {
				continue // a program that is not a kernel
			}
		}
		out = append(out, e)
	}
	return out, nil
}
