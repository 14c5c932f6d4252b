package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	sdboot "github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	cosi "github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/fat"
)

// findBootloader says how the image boots, by what its ESP has.
func (o *imageBuildOptions) findBootloader(s *cosi.Spec) (b cosi.Bootloader, err error) {
	b.Type = o.bootloader
	switch b.Type {
	case cosi.GRUB:
		return b, nil
	case cosi.SystemdBoot, "":
	default:
		return b, errkind.Errorf(errkind.Invalid, "--bootloader is %q, it must be %s or %s", b.Type, cosi.SystemdBoot, cosi.GRUB)
	}
	var ukis, configs []cosi.BootEntry
	for _, m := range s.Mounts {
		esp, err := openESP(s, m)
		if err != nil || esp == nil {
			return b, err
		}
		u, err := findUKIs(esp, m.MountPoint)
		if err != nil {
			return b, fmt.Errorf("look for what boots in partition %d: %w", m.Number, err)
		}
		c, err := findConfigs(esp, m.MountPoint)
		if err != nil {
			return b, fmt.Errorf("look for what boots in partition %d: %w", m.Number, err)
		}
		ukis, configs = append(ukis, u...), append(configs, c...)
	}
	if len(ukis)+len(configs) > 0 {
		b.Type, b.SystemdBoot = cosi.SystemdBoot, &cosi.SystemdBootSet{Entries: append(ukis, configs...)}
		return b, nil
	}
	err = errkind.Errorf(errkind.Invalid, "there is nothing for systemd-boot: neither EFI/Linux/*.efi nor loader/entries/*.conf is in a FAT file system with a mount point")
	return b, errkind.WithHint(err, "Give the ESP a mount point, or --bootloader grub.")
}

// noFiles is a file system of a kind that firmware does not read.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func openESP(s *cosi.Spec, m cosi.Mount) (fs.FS, error) {
	r, err := cosi.OpenPartition(s.Disk, s.DiskSize, m.Number)
	if err != nil {
		return nil, err
	}
	esp, err := fat.Open(r, r.Size())
	if errkind.Of(err) == errkind.Corrupt {
		return noFiles{}, nil
	}
	return esp, err
}

// files lists a folder that may not be there by the ending of its files.
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
func findUKIs(esp fs.FS, mount string) ([]cosi.BootEntry, error) {
	names, err := files(esp, "EFI/Linux", ".efi")
	if err != nil {
		return nil, err
	}
	var out []cosi.BootEntry
	for _, name := range names {
		uki, err := readUKI(esp, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, cosi.BootEntry{Type: cosi.UKIStandalone, Path: path.Join(mount, name), Cmdline: uki.Cmdline, Kernel: uki.Uname})
	}
	return out, nil
}

func readUKI(esp fs.FS, name string) (sdboot.UKI, error) {
	f, err := esp.Open(name)
	if err != nil {
		return sdboot.UKI{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sdboot.UKI{}, err
	}
	return sdboot.ReadUKI(f.(io.ReaderAt), info.Size())
}

// findConfigs reads loader/entries (Boot Loader Specification, type 1).
func findConfigs(esp fs.FS, mount string) ([]cosi.BootEntry, error) {
	names, err := files(esp, "loader/entries", ".conf")
	if err != nil {
		return nil, err
	}
	var out []cosi.BootEntry
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
		e := cosi.BootEntry{
			Type: cosi.EntryConfig, Path: path.Join(mount, name),
			Cmdline: strings.Join(fields["options"], " "), Kernel: strings.Join(fields["version"], " "),
		}
		if program := append(fields["uki"], fields["efi"]...); len(program) > 0 {
			e.Type = cosi.UKIConfig
			if uki, err := readUKI(esp, strings.TrimPrefix(path.Clean(program[0]), "/")); err == nil {
				e.Cmdline, e.Kernel = cmp.Or(e.Cmdline, uki.Cmdline), cmp.Or(e.Kernel, uki.Uname)
			} else if len(fields["uki"]) == 0 {
				continue // a program that is no kernel
			}
		}
		out = append(out, e)
	}
	return out, nil
}
