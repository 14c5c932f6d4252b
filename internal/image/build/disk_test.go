package build

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
)

// volume makes a FAT file system with these files, by the tools that make ESPs.
func volume(t *testing.T, path string, files fstest.MapFS) {
	t.Helper()
	tool := func(name string, args ...string) {
		t.Helper()
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s makes the file systems", name)
		}
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	tree := t.TempDir()
	for _, dir := range []string{"EFI", "loader"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range files {
		name = filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, f.Data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	tool("mkfs.vfat", "-F16", "-i", "0123abcd", "-C", path, "20480")
	tool("mcopy", "-s", "-i", path, filepath.Join(tree, "EFI"), filepath.Join(tree, "loader"), "::")
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

// esp is the ESP of an image with two kernels: a unified kernel image that systemd-boot finds
// by itself, and one that an entry names.
func esp() fstest.MapFS {
	files := boottest.ESP(boot.AMD64, "1")
	files["EFI/other/two.efi"] = &fstest.MapFile{Data: boottest.UKI(boot.AMD64, "2")}
	files["loader/entries/a.conf"] = text("title One\nversion\t3\nlinux /vmlinuz\noptions ro\noptions quiet\n")
	files["loader/entries/b.conf"] = text("uki /EFI/other/two.efi\n")
	files["loader/entries/c.conf"] = text("efi /EFI/BOOT/BOOTX64.EFI\n")
	files["loader/entries/d.conf"] = text("efi /EFI/other/two.efi\nversion mine\n")
	files["loader/entries/README"] = text("not an entry")
	return files
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// world changes into a folder with the files of a system.
func world(t *testing.T, files fstest.MapFS) {
	t.Helper()
	t.Chdir(t.TempDir())
	volume(t, "esp", files)
	write(t, "os-release", "ID=test\n")
	write(t, "packages", "b 2-1 all\na 1-1 amd64\na 1-1 amd64\n")
	write(t, "root", strings.Repeat("r", 8<<10))
	write(t, "empty", "")
}

const (
	espPart  = "name=esp,type=esp,file=esp,mount=/boot/efi,fstype=vfat,fsuuid=0123-ABCD"
	rootPart = "name=root,type=root,file=root,mount=/,fstype=ext4,fsuuid=1-2"
)

// options are those of the system in world, made of partitions.
func options(change func(*Options)) Options {
	o := Options{Arch: "x86-64", OSRelease: "os-release", Packages: "packages", Partitions: []string{espPart, rootPart}}
	change(&o)
	return o
}

// The boot entries are those that systemd-boot shows, kernels first.
func TestTheBootEntriesAndThePackagesOfASystemAreFound(t *testing.T) {
	world(t, esp())
	i, err := Open(options(func(*Options) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	want := image.Bootloader{Type: image.SystemdBoot, SystemdBoot: &image.SystemdBootSet{Entries: []image.BootEntry{
		{Type: image.UKIStandalone, Path: "/boot/efi/EFI/Linux/linux-1.efi", Cmdline: "quiet", Kernel: "1"},
		{Type: image.EntryConfig, Path: "/boot/efi/loader/entries/a.conf", Cmdline: "ro quiet", Kernel: "3"},
		{Type: image.UKIConfig, Path: "/boot/efi/loader/entries/b.conf", Cmdline: "quiet", Kernel: "2"},
		{Type: image.UKIConfig, Path: "/boot/efi/loader/entries/d.conf", Cmdline: "quiet", Kernel: "mine"},
	}}}
	if diff := cmp.Diff(want, i.Spec.Bootloader); diff != "" {
		t.Errorf("the boot loader (-want +got):\n%s", diff)
	}
	packages := []image.Package{{Name: "a", Version: "1", Release: "1", Arch: "amd64"}, {Name: "b", Version: "2", Release: "1", Arch: "all"}}
	if diff := cmp.Diff(packages, i.Spec.Packages); diff != "" {
		t.Errorf("the packages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"os-release", "packages", "esp", "root"}, i.Inputs()); diff != "" {
		t.Errorf("the inputs (-want +got):\n%s", diff)
	}
}

// Each fault of an input is an error that names the input.
func TestASystemThatWouldNotBootIsRefused(t *testing.T) {
	without := func(names ...string) fstest.MapFS {
		files := esp()
		for _, name := range names {
			delete(files, name)
		}
		return files
	}
	with := func(name string, data []byte) fstest.MapFS {
		files := esp()
		files[name] = &fstest.MapFile{Data: data}
		return files
	}
	bare := without("EFI/Linux/linux-1.efi", "loader/entries/a.conf", "loader/entries/b.conf", "loader/entries/d.conf")
	cut := boottest.UKI(boot.AMD64, "1")[:300]
	for _, c := range []struct {
		name   string
		files  fstest.MapFS
		change func(*Options)
		kind   errkind.Kind
		says   string
	}{
		{"another architecture", esp(), func(o *Options) { o.Arch = "riscv" }, errkind.Invalid, `--arch is "riscv", it must be`},
		{"an unknown boot loader", esp(), func(o *Options) { o.Bootloader = "lilo" }, errkind.Invalid, `--bootloader is "lilo"`},
		{"no boot entry", bare, func(*Options) {}, errkind.Invalid, "systemd-boot has no boot entry"},
		{"an ESP that is not mounted", esp(), func(o *Options) { o.Partitions[0] = "name=esp,type=esp,file=esp" }, errkind.Invalid, "systemd-boot has no boot entry"},
		{"a kernel of another architecture", with("EFI/Linux/x.efi", boottest.UKI(boot.ARM64, "1")), func(*Options) {}, errkind.Incompatible,
			"check the boot files of partition 1: EFI/Linux/x.efi is a program for arm64, and the image is for"},
		{"loaders of another architecture", boottest.ESP(boot.ARM64, "1"), func(*Options) {}, errkind.Incompatible, "is a program for arm64"},
		{"a damaged kernel", with("EFI/Linux/x.efi", cut), func(*Options) {}, "", "read the boot entries of partition 1: EFI/Linux/x.efi: "},
		{"no list of packages", esp(), func(o *Options) { o.Packages = "none" }, "", "read --packages: "},
		{"a list of no packages", esp(), func(o *Options) { o.Packages = "os-release" }, errkind.Invalid, "read --packages os-release: line 1: "},
		{"a sysext that is missing", esp(), func(o *Options) { o.Sysexts = []string{"none"} }, "", "read --sysext: "},
		{"an empty confext", esp(), func(o *Options) { o.Confexts = []string{"empty"} }, errkind.Invalid, "read --confext: empty is empty"},
		{"a disk that is a file system", esp(), func(o *Options) { o.Disk = "esp" }, errkind.Invalid, "read --disk: esp: it is"},
		{"an empty disk", esp(), func(o *Options) { o.Disk = "empty" }, errkind.Invalid, "read --disk: empty is empty"},
		{"a disk that is missing", esp(), func(o *Options) { o.Disk = "none" }, "", "read --disk: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.files)
			i, err := Open(options(c.change))
			if err == nil {
				i.Close()
				t.Fatalf("it is taken: %+v", i.Spec)
			}
			if !strings.Contains(err.Error(), c.says) || c.kind != "" && errkind.Of(err) != c.kind {
				t.Errorf("%s: %v", errkind.Of(err), err)
			}
		})
	}
}

// A disk has the mounts that the types of its partitions suggest, or those that are given.
func TestTheMountsOfADiskAreFoundOrGiven(t *testing.T) {
	world(t, esp())
	made, err := Open(options(func(*Options) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	disk := make([]byte, made.Spec.DiskSize)
	if _, err := made.Spec.Disk.ReadAt(disk, 0); err != nil {
		t.Fatal(err)
	}
	write(t, "disk", string(disk))
	write(t, "cut", string(disk[:len(disk)/2]))
	found := []image.Mount{{Number: 1, MountPoint: "/boot/efi", Type: "vfat", UUID: "0123-ABCD"}}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []image.Mount
		says   string
	}{
		{"found", func(*Options) {}, found, ""},
		{"given", func(o *Options) { o.Mounts = []string{"partition=1,mount=/efi", "partition=2,mount=/"} }, []image.Mount{{Number: 1, MountPoint: "/efi"}, {Number: 2, MountPoint: "/"}}, ""},
		{"given, without an ESP", func(o *Options) { o.Mounts, o.Bootloader = []string{"partition=2,mount=/"}, image.GRUB }, []image.Mount{{Number: 2, MountPoint: "/"}}, ""},
		{"of a partition that is missing", func(o *Options) { o.Mounts = []string{"partition=3,mount=/"} }, nil, "open partition 3: the disk has no such partition"},
		{"of no number", func(o *Options) { o.Mounts = []string{"partition=one,mount=/"} }, nil, "must be the number of a partition"},
		{"of an incomplete disk", func(o *Options) { o.Disk = "cut" }, nil, "find mounts: "},
	} {
		i, err := Open(options(func(o *Options) {
			o.Disk, o.Partitions = "disk", nil
			c.change(o)
		}))
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, i.Spec.Mounts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		i.Close()
	}
}

// A finished image is checked by its metadata, whatever made it.
func TestTheProgramsOfAFinishedImageAreForItsArchitecture(t *testing.T) {
	other := boottest.ESP(boot.ARM64, "1")
	for _, c := range []struct {
		name   string
		files  fstest.MapFS
		change func(*image.Spec)
		says   string
	}{
		{"the same", esp(), func(*image.Spec) {}, ""},
		{"another", other, func(*image.Spec) {}, "is a program for arm64, and the image is for"},
		{"a file system of another type", other, func(s *image.Spec) { s.Mounts[0].Type = "ext4" }, ""},
		{"no FAT, whatever its type", other, func(s *image.Spec) { s.Mounts = []image.Mount{{Number: 2, MountPoint: "/", Type: "vfat", UUID: "1-2"}} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.files)
			i := &Image{Spec: image.Spec{Arch: image.AMD64, OSRelease: "ID=test\n", Bootloader: image.Bootloader{Type: image.GRUB}}}
			defer i.Close()
			if err := i.assemble([]string{espPart, rootPart}); err != nil {
				t.Fatal(err)
			}
			c.change(&i.Spec)
			i.Spec.Temp = t.TempDir()
			var made bytes.Buffer
			sum, err := image.Write(t.Context(), &made, i.Spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(i.Spec.Temp, "image.cosi")
			write(t, path, made.String())
			img, err := image.Open(t.Context(), fetch.Source{Path: path}, sum, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			err = CheckPrograms(t.Context(), img)
			if c.says == "" && err != nil || c.says != "" && (errkind.Of(err) != errkind.Incompatible || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: %v", errkind.Of(err), err)
			}
		})
	}
}

// broken is a file system with a folder or a file that cannot be read.
type broken struct {
	files fs.FS
	name  string
}

var errRead = errors.New("input/output error")

func (b broken) Open(name string) (fs.File, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errRead}
	}
	return b.files.Open(name)
}

// A boot file that cannot be read is an error, and not a missing entry.
func TestABootFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	ukis := func(f fs.FS) error { _, err := findUKIs(f, "/efi"); return err }
	configs := func(f fs.FS) error { _, err := findConfigs(f, "/efi"); return err }
	loaders := func(f fs.FS) error { return checkLoaders(f, image.AMD64) }
	for _, c := range []struct {
		name string
		read func(fs.FS) error
	}{
		{"EFI/Linux", ukis}, {"EFI/Linux/linux-1.efi", ukis}, {"loader/entries", configs}, {"loader/entries/a.conf", configs},
		{"EFI/Linux", loaders}, {"EFI/Linux/linux-1.efi", loaders}, {"EFI/BOOT", loaders}, {"EFI/BOOT/BOOTX64.EFI", loaders},
	} {
		if err := c.read(broken{esp(), c.name}); !errors.Is(err, errRead) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
