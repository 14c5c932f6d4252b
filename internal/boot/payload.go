package boot

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// Payload has the boot files of a slot: a boot loader, with a UKI and its extras or with a
// configuration of GRUB. Only [Read] and [ReadGrub] make one, from files for the architecture
// of the host.
type Payload struct {
	kind   Kind
	info   UKI
	config string // of GRUB
	uki    file
	extra  []file // beside the UKI, in its folder of extras
	loader []file // of EFI/BOOT
}

// UKI returns the facts about the kernel image of p. Those of GRUB only have an architecture.
func (p *Payload) UKI() UKI { return p.info }

type file struct {
	name string // without folder
	size int64
	open func() (fs.File, error)
}

// Limits on the boot files of an image.
const (
	maxFiles    = 64
	maxUKI      = 2 << 30
	maxSmall    = 64 << 20 // anything else
	systemdBoot = "EFI/systemd/systemd-"
)

// Read finds the boot files in the ESP of an image: the one UKI in EFI/Linux, its extras,
// and the boot loader, which is all of EFI/BOOT or, if that is empty, systemd-boot. Upper
// and lower case are the same. Stage reads the files again: their content must be verified,
// and must not change until then.
func Read(esp fs.FS, arch Arch) (*Payload, error) {
	p, err := read(esp, arch)
	if err != nil {
		return nil, errkind.WithName(prefix("read the image's ESP", err), errkind.NameEnumerateUkis)
	}
	return p, nil
}

func read(esp fs.FS, arch Arch) (*Payload, error) {
	dir, all, err := list(esp, linuxDir, maxUKI)
	if err != nil {
		return nil, err
	}
	ukis := slices.DeleteFunc(all, func(f file) bool { return !hasSuffix(f.name, ".efi") })
	if len(ukis) != 1 {
		return nil, errkind.Errorf(errkind.Invalid, "%s has %d unified kernel images, and must have one", linuxDir, len(ukis))
	}
	p := &Payload{kind: SystemdBoot, uki: ukis[0]}
	if p.info, err = p.uki.inspect(arch); err != nil {
		return nil, prefix(path.Join(dir, p.uki.name), err)
	}
	if _, p.extra, err = list(esp, path.Join(linuxDir, p.uki.name+extraDir), maxSmall); err != nil {
		return nil, err
	}
	for _, f := range p.extra {
		if hasSuffix(f.name, ".efi") {
			if err := f.program(arch); err != nil {
				return nil, prefix(f.name, err)
			}
		}
	}
	p.loader, err = readLoader(esp, arch)
	return p, err
}

func readLoader(esp fs.FS, arch Arch) ([]file, error) {
	_, files, err := list(esp, removable, maxSmall)
	if err != nil {
		return nil, err
	}
	is := func(name string) func(file) bool {
		return func(f file) bool { return strings.EqualFold(f.name, name) }
	}
	i := slices.IndexFunc(files, is(arch.bootFile()))
	if i < 0 {
		dir := path.Dir(systemdBoot)
		name := path.Base(systemdBoot) + arch.bootFile()
		if _, files, err = list(esp, dir, maxSmall); err != nil {
			return nil, err
		}
		if i = slices.IndexFunc(files, is(name)); i < 0 {
			return nil, errkind.Errorf(errkind.NotFound, "it has no boot loader: neither %s/%s nor %s/%s", removable, arch.bootFile(), dir, name)
		}
		files, i = files[i:i+1], 0
	}
	if err := files[i].program(arch); err != nil {
		return nil, prefix(files[i].name, err)
	}
	files[i].name = arch.bootFile()
	// What firmware starts is written last: it may start the others.
	return append(slices.Delete(slices.Clone(files), i, i+1), files[i]), nil
}

// list returns the regular files of a folder and the name of the folder in its actual case;
// no files if the folder does not exist.
func list(fsys fs.FS, dir string, maxSize int64) (string, []file, error) {
	at := "."
	for part := range strings.SplitSeq(dir, "/") {
		entries, err := fs.ReadDir(fsys, at)
		if err != nil {
			return "", nil, err
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), part) })
		if i < 0 {
			return at, nil, nil
		}
		at = path.Join(at, entries[i].Name())
	}
	entries, err := fs.ReadDir(fsys, at)
	if err != nil {
		return "", nil, err
	}
	var files []file
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name := path.Join(at, e.Name())
		info, err := e.Info()
		if err != nil {
			return "", nil, err
		}
		if info.Size() > maxSize || len(files) == maxFiles {
			return "", nil, errkind.Errorf(errkind.TooLarge, "%s: a file here may have %d bytes, and there may be %d", name, maxSize, maxFiles)
		}
		files = append(files, file{e.Name(), info.Size(), func() (fs.File, error) { return fsys.Open(name) }})
	}
	return at, files, nil
}

// readerAt opens f for reading anywhere.
func (f file) readerAt(use func(io.ReaderAt) error) error {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	r, ok := in.(io.ReaderAt)
	if !ok {
		return errors.New("it can only be read from its start")
	}
	return use(r)
}

// inspect reads f as a UKI for arch.
func (f file) inspect(arch Arch) (u UKI, err error) {
	err = f.readerAt(func(r io.ReaderAt) error {
		if u, err = ReadUKI(r, f.size); err != nil {
			return err
		}
		return fits(u.Arch, arch)
	})
	return u, err
}

// program checks that f is a program for arch.
func (f file) program(arch Arch) error {
	return f.readerAt(func(r io.ReaderAt) error {
		_, a, err := readPE(r, f.size)
		if err != nil {
			return err
		}
		return fits(a, arch)
	})
}

// fits fails if p is not for a boot loader of that kind, or not for the architecture.
func (p *Payload) fits(kind Kind, arch Arch) error {
	if p.kind != kind {
		return errkind.Errorf(errkind.Incompatible, "the boot files are for %s, and this install boots by %s", p.kind, kind)
	}
	return fits(p.info.Arch, arch)
}

func fits(is, want Arch) error {
	if is != want {
		return errkind.Errorf(errkind.Incompatible, "it is for %s, and the host is %s", is, want)
	}
	return nil
}

func hasSuffix(name, suffix string) bool { return strings.HasSuffix(strings.ToLower(name), suffix) }
