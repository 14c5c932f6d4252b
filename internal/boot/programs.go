package boot

import (
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// WithPrograms calls use with the two programs of p that firmware starts and measures: the
// boot loader and the UKI.
func (p *Payload) WithPrograms(use func(loader, uki *io.SectionReader) error) error {
	loader := p.loader[len(p.loader)-1] // firmware starts the last: see readLoader
	return loader.readerAt(func(l io.ReaderAt) error {
		return p.uki.readerAt(func(u io.ReaderAt) error {
			return use(io.NewSectionReader(l, 0, loader.size), io.NewSectionReader(u, 0, p.uki.size))
		})
	})
}

// ReadSlot finds the boot files of a slot on the ESP of a host: its newest UKI and its boot
// loader. The error is of kind NotFound if the slot has none.
func ReadSlot(esp fs.FS, arch Arch, index int, s slot.Slot) (*Payload, error) {
	p, err := readSlot(esp, arch, index, s)
	if err != nil {
		return nil, prefix("read the boot files of "+label(index, s), err)
	}
	return p, nil
}

func readSlot(esp fs.FS, arch Arch, index int, s slot.Slot) (*Payload, error) {
	_, all, err := list(esp, linuxDir, maxUKI)
	if err != nil {
		return nil, err
	}
	newest, p := -1, &Payload{}
	for _, f := range all {
		if n, ok := parseUKIName(f.name); ok && n.index == index && n.slot == s && n.number > newest {
			newest, p.uki = n.number, f
		}
	}
	dir := path.Join(efiDir, label(index, s))
	_, files, err := list(esp, dir, maxSmall)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(files, func(f file) bool { return f.name == arch.bootFile() })
	if newest < 0 || i < 0 {
		return nil, errkind.Errorf(errkind.NotFound, "%s or %s has not both a UKI and a boot loader of the slot", linuxDir, dir)
	}
	p.loader = files[i : i+1]
	p.info, err = p.uki.inspect(arch)
	return p, err
}
