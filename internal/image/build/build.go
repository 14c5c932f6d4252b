// Package build makes an OS image (COSI) from a disk or the content of partitions, the
// os-release file, and the list of packages of a system.
//
// It reads the file systems and the boot entries for metadata.json from the partitions, and
// refuses a system whose boot files are for another architecture. Package image writes the
// format.
package build

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Options are the values of the flags of `trident image build`. Errors name the flags. The
// caller gives either Disk or Partitions.
type Options struct {
	Disk       string   // a raw disk image or a block device
	Partitions []string // "name=root,type=root,file=root.ext4,mount=/"
	Mounts     []string // of Disk: "partition=2,mount=/"; none: by the types of the partitions
	OSRelease  string   // the os-release file
	Packages   string   // the list of packages, or ""
	Bootloader string   // the type of the boot loader; "" is systemd-boot
	Arch       string   // also x86-64
	ID         string   // a UUID, or ""
	Sysexts    []string // extension images to carry
	Confexts   []string
}

// Image is the input of an image, opened and checked.
type Image struct {
	// Spec is complete but for Warn and Temp, and valid until Close.
	Spec   image.Spec
	texts  []string
	inputs []*os.File
}

// Open opens and checks the inputs of an image. The caller has to close the image.
func Open(o Options) (_ *Image, err error) {
	arch, ok := image.ParseArch(strings.ReplaceAll(o.Arch, "-", "_"))
	if !ok {
		return nil, errkind.Errorf(errkind.Invalid, "--arch is %q, it must be %s or %s", o.Arch, image.AMD64, image.ARM64)
	}
	i := &Image{Spec: image.Spec{ID: o.ID, Arch: arch}, texts: []string{o.OSRelease, o.Packages}}
	defer func() {
		if err != nil {
			i.Close()
		}
	}()
	release, err := filekind.ReadFile(o.OSRelease, 1<<20, filekind.Text)
	if err == nil && len(release) == 0 {
		err = errkind.Errorf(errkind.Invalid, "%s is empty", o.OSRelease)
	}
	if err != nil {
		return nil, fmt.Errorf("read --os-release: %w", err)
	}
	i.Spec.OSRelease = image.OSRelease(release)
	if i.Spec.Packages, err = readPackages(o.Packages); err != nil {
		return nil, err
	}
	if o.Disk != "" {
		err = i.openDisk(o.Disk, o.Mounts)
	} else {
		err = i.assemble(o.Partitions)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(i.carry("--sysext", image.Sysext, o.Sysexts), i.carry("--confext", image.Confext, o.Confexts)); err != nil {
		return nil, err
	}
	if err := checkPrograms(&i.Spec); err != nil {
		return nil, err
	}
	i.Spec.Bootloader, err = findBootloader(&i.Spec, o.Bootloader)
	return i, err
}

// Close closes the inputs.
func (i *Image) Close() {
	for _, f := range i.inputs {
		_ = f.Close() // only read
	}
}

// Inputs returns the names of all input files; no output may overwrite them.
func (i *Image) Inputs() []string {
	names := i.texts
	for _, f := range i.inputs {
		names = append(names, f.Name())
	}
	return names
}

func (i *Image) openDisk(path string, mounts []string) (err error) {
	s := &i.Spec
	if s.Disk, s.DiskSize, err = i.open(path, filekind.Disk); err != nil {
		return fmt.Errorf("read --disk: %w", err)
	}
	if len(mounts) == 0 {
		s.Mounts, err = image.FindMounts(s.Disk, s.DiskSize)
	} else {
		s.Mounts, err = parseMounts(mounts)
	}
	return err
}

// carry opens extension images that the image is to carry.
func (i *Image) carry(flag, class string, paths []string) error {
	for _, path := range paths {
		content, size, err := i.open(path, filekind.Extension)
		if err != nil {
			return fmt.Errorf("read %s: %w", flag, err)
		}
		i.Spec.Extensions = append(i.Spec.Extensions, image.ExtensionSpec{Class: class, Content: content, Size: size})
	}
	return nil
}

// open opens a file or a block device as an input, and returns its size.
func (i *Image) open(path string, want filekind.Want) (io.ReaderAt, int64, error) {
	f, err := regfile.OpenDisk(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size == 0 {
		err = errkind.Errorf(errkind.Invalid, "%s is empty", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	i.inputs = append(i.inputs, f)
	if other := filekind.Mistaken(f, size, want); other != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, other)
	}
	return f, size, nil
}

func parseMounts(mounts []string) ([]image.Mount, error) {
	var out []image.Mount
	for _, text := range mounts {
		k, err := parseKeys("--mount", text, "partition", "mount", "fstype", "fsuuid", "verity", "roothash", "hashoffset")
		if err != nil {
			return nil, err
		}
		m, err := k.mount(k.number)
		if err != nil {
			return nil, err
		}
		if m.Number, err = k.number("partition"); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
