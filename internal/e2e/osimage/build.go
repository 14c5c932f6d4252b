package osimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// dress changes the tree to the tree of the image.
func (b *build) dress(s Spec) error {
	if err := os.MkdirAll(filepath.Join(b.tree, "usr/share/lab"), 0o755); err != nil {
		return err
	}
	release := filepath.Join(b.tree, "usr/lib/os-release")
	text, err := os.ReadFile(release)
	if err != nil {
		return err
	}
	b.osRelease = string(text) + "IMAGE_ID=debian-lab\nIMAGE_VERSION=" + s.Version + "\n"
	files := map[string]string{Marker: s.Version + "\n", "usr/lib/os-release": b.osRelease}
	const fails = "#!/bin/sh\nexit 1\n"
	switch s.Fault {
	case "":
	case DoesNotBoot:
		files["usr/sbin/init"] = fails
	case Unhealthy:
		files[unhealthy] = ""
	case TridentBroken:
		files["usr/bin/tridentd"] = fails
	default:
		return fmt.Errorf("there is no fault %q", s.Fault)
	}
	for name, text := range files {
		path := filepath.Join(b.tree, name)
		mode := fs.FileMode(0o644)
		if text == fails {
			mode = 0o755
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	if s.Mutate != nil {
		return s.Mutate(b.tree)
	}
	return nil
}

// makeESP makes the file system with the boot loader of the image.
func (b *build) makeESP(ctx context.Context, initrd string) error {
	if err := b.findKernel(); err != nil {
		return err
	}
	esp := filepath.Join(b.dir, "esp")
	for _, dir := range []string{"EFI/BOOT", "EFI/Linux"} {
		if err := os.MkdirAll(filepath.Join(esp, dir), 0o755); err != nil {
			return err
		}
	}
	fill := b.withUKI
	if b.uki == "" {
		fill = b.withGrub
	}
	if b.bls {
		fill = b.withEntries
	}
	if err := fill(ctx, initrd, esp); err != nil {
		return err
	}
	if b.signed {
		if err := signAll(ctx, esp); err != nil {
			return err
		}
	}
	size, err := sizeOf(esp)
	if err != nil {
		return err
	}
	id := derive("esp of " + b.root.String()).String()[:8]
	fat := filepath.Join(b.dir, "esp.img")
	if err := makeFile(fat, round(size+size/20+1<<20)); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.vfat", "-i", id, fat); err != nil {
		return err
	}
	return run(ctx, "mcopy", "-s", "-i", fat, filepath.Join(esp, "EFI"), "::")
}

// signAll signs the programs on an ESP.
func signAll(ctx context.Context, esp string) error {
	return filepath.WalkDir(esp, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.EqualFold(filepath.Ext(name), ".efi") {
			return err
		}
		return lab.Sign(ctx, name, name)
	})
}

func (b *build) findKernel() error {
	kernels, err := filepath.Glob(filepath.Join(b.tree, "boot/vmlinuz-*"))
	if err == nil && len(kernels) != 1 {
		err = fmt.Errorf("find the tree's kernel: there are %d, want 1", len(kernels))
	}
	if err != nil {
		return err
	}
	b.kernel = strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	return nil
}

// withUKI makes the UKI with the ukify of the tree, and puts it and systemd-boot into esp.
func (b *build) withUKI(ctx context.Context, initrd, esp string) error {
	const loader = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	if err := run(ctx, "cp", initrd, filepath.Join(b.tree, "tmp/initrd")); err != nil {
		return err
	}
	_, err := inTree(ctx, b.tree, "ukify", "build", "--linux=/boot/vmlinuz-"+b.kernel, "--initrd=/tmp/initrd", "--uname="+b.kernel,
		"--os-release=@/usr/lib/os-release", "--cmdline="+b.cmdline(), "--output=/tmp/uki.efi")
	if err != nil {
		return err
	}
	for _, c := range [][]string{
		{"mv", filepath.Join(b.tree, "tmp/uki.efi"), filepath.Join(esp, "EFI/Linux", b.uki)},
		{"rm", filepath.Join(b.tree, "tmp/initrd")},
		{"cp", filepath.Join(b.tree, loader), filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI")},
	} {
		if err := run(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// withGrub makes a GRUB without a prefix, and puts it into esp, also in the place of shim. The
// kernel and the configuration that Trident reads are in the tree.
func (b *build) withGrub(ctx context.Context, initrd, esp string) error {
	grub := filepath.Join(esp, "EFI/BOOT/grubx64-noprefix.efi")
	if err := makeGrub(ctx, grub); err != nil {
		return err
	}
	boot := filepath.Join(b.tree, "boot")
	config := fmt.Sprintf("menuentry 'Debian' {\n\tlinux /boot/vmlinuz-%[1]s %[2]s\n\tinitrd /boot/initrd.img-%[1]s\n}\n", b.kernel, b.cmdline())
	return errors.Join(
		run(ctx, "cp", grub, filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI")),
		run(ctx, "cp", initrd, filepath.Join(boot, "initrd.img-"+b.kernel)),
		os.MkdirAll(filepath.Join(boot, "grub2"), 0o755),
		os.WriteFile(filepath.Join(boot, "grub2/grub.cfg"), []byte(config), 0o644),
	)
}

// makeGrub makes a GRUB that reads the configuration in the folder of its own file.
func makeGrub(ctx context.Context, to string) error {
	modules := strings.Fields("part_gpt fat ext2 search search_fs_uuid normal linux configfile test echo minicmd reboot")
	return run(ctx, "grub-mkimage", append([]string{"-O", "x86_64-efi", "-p", "", "-o", to}, modules...)...)
}

// EmptyESP returns a function that writes an empty ESP of this size in MiB.
func (m *Maker) EmptyESP(ctx context.Context, mib int64) func(io.Writer) error {
	return func(w io.Writer) error {
		dir, err := os.MkdirTemp(m.dir, "esp-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "esp.img")
		if err := makeFile(path, mib<<20); err != nil {
			return err
		}
		if err := run(ctx, "mkfs.vfat", path); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}
}

func (b *build) cmdline() string {
	if b.verified { // Trident adds the arguments of the initrd
		return strings.Replace(lab.Cmdline("UUID="+b.root.String()), " rw ", " ro ", 1) + " systemd.volatile=state"
	}
	return lab.Cmdline("UUID="+b.root.String()) + b.usr.arguments()
}

// makeRoot makes the root file system of the tree, without the files that only ukify needs,
// because scenarios write it many times on emulated machines.
func (b *build) makeRoot(ctx context.Context) error {
	if err := b.listPackages(ctx); err != nil {
		return err
	}
	patterns := forUkify()
	if b.uki != "" {
		patterns = append(patterns, "boot/*-"+b.kernel)
	}
	if b.usr.rootHash != "" {
		patterns = append(patterns, "usr/*")
	}
	if b.verified || b.bls {
		if err := b.makeBoot(ctx); err != nil {
			return err
		}
		patterns = append(patterns, "boot/[^e]*")
	}
	if err := removeAll(b.tree, patterns...); err != nil {
		return err
	}
	size, err := sizeOf(b.tree)
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "root.img")
	if err := makeFile(path, round(size+size/6+96<<20)); err != nil {
		return err
	}
	id, features := b.root.String(), "has_journal"
	if b.verified {
		features = "^has_journal"
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-O", features, "-U", id, "-E", "hash_seed="+id+",root_owner=0:0", "-m", "1", "-d", b.tree, path)
}

// bootID returns the UUID of the file system of /boot.
func (b *build) bootID() gpt.GUID { return derive("boot of " + b.root.String()) }

// makeBoot makes a file system of /boot.
func (b *build) makeBoot(ctx context.Context) error {
	boot := filepath.Join(b.tree, "boot")
	size, err := sizeOf(boot)
	if err != nil {
		return err
	}
	path, id := filepath.Join(b.dir, "xbootldr.img"), b.bootID().String()
	if err := makeFile(path, round(size+size/6+16<<20)); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-U", id, "-E", "hash_seed="+id+",root_owner=0:0", "-d", boot, path)
}

// forUkify returns the patterns of the files that only ukify needs.
func forUkify() []string {
	return []string{"usr/lib/python3*", "usr/bin/python3*", "usr/share/python3"}
}

func removeAll(tree string, patterns ...string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// listPackages returns the packages of the tree by dpkg and by rpm.
func (b *build) listPackages(ctx context.Context) error {
	debs, err := inTree(ctx, b.tree, "dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\n")
	if err != nil {
		return err
	}
	rpms, err := inTree(ctx, b.tree, "rpm", "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\n")
	if err != nil {
		return err
	}
	for line := range strings.Lines(debs + rpms) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("read the list of packages: %q", line)
		}
		p := image.Package{Name: f[0], Version: f[1], Release: "0", Arch: f[2]}
		if i := strings.LastIndexByte(f[1], '-'); i > 0 {
			p.Version, p.Release = f[1][:i], f[1][i+1:]
		}
		b.packages = append(b.packages, p)
	}
	return nil
}

// write puts the image together.
func (b *build) write(ctx context.Context, path string) (sha384 string, err error) {
	var parts []image.Part
	kinds := []string{"esp", "root"}
	mounts := []image.Mount{{Number: 1, MountPoint: "/boot/efi"}, {Number: 2, MountPoint: "/"}}
	if b.usr.rootHash != "" {
		kinds = append(kinds, "usr", "usr-verity")
		mounts = append(mounts, image.Mount{Number: 3, MountPoint: "/usr", HashTree: 4, RootHash: b.usr.rootHash})
	}
	if b.verified || b.bls {
		kinds = append(kinds, "xbootldr")
		mounts = append(mounts, image.Mount{Number: 3, MountPoint: "/boot"})
	}
	if b.verified {
		kinds = append(kinds, "root-verity")
		mounts[1].HashTree, mounts[1].RootHash = 4, b.rootHash
	}
	for _, kind := range kinds {
		f, err := os.Open(filepath.Join(b.dir, kind+".img"))
		if err != nil {
			return "", err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		guid, ok := image.ParsePartType(kind, image.AMD64)
		if !ok {
			return "", fmt.Errorf("there is no type of partition %s", kind)
		}
		parts = append(parts, image.Part{Name: kind, Type: guid, Content: f, Size: info.Size()})
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		return "", err
	}
	loader := image.Bootloader{Type: image.GRUB}
	if b.uki != "" {
		entry := image.BootEntry{Type: image.UKIStandalone, Path: "/boot/efi/EFI/Linux/" + b.uki, Cmdline: b.cmdline(), Kernel: b.kernel}
		loader = image.Bootloader{Type: image.SystemdBoot, SystemdBoot: &image.SystemdBootSet{Entries: []image.BootEntry{entry}}}
	}
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	sha384, err = image.Write(ctx, out, image.Spec{
		Arch: image.AMD64, OSRelease: image.OSRelease(b.osRelease), Packages: b.packages,
		Bootloader: loader,
		Disk:       disk, DiskSize: size, Temp: b.dir,
		Mounts: mounts,
	}, nil)
	return sha384, errors.Join(err, out.Close())
}

// round rounds a size up to whole MiB.
func round(size int64) int64 { return (size + 1<<20 - 1) >> 20 << 20 }

func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// sizeOf returns the size of the files of a tree in blocks of 4 KiB, with their inodes.
func sizeOf(tree string) (size int64, err error) {
	err = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += 512
		if info.Mode().IsRegular() || info.IsDir() {
			size += (info.Size() + 4095) &^ 4095
		}
		return nil
	})
	return size, err
}
