package boottest

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"io/fs"
	"path"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/boot"
)

// Section is a section of a program.
type Section struct {
	Name, Data string
}

// Program returns a program for UEFI that has these sections and does nothing.
func Program(arch boot.Arch, sections ...Section) []byte {
	const dos, align = 64, 512
	headers := dos + 4 + 20 + 240 + 40*len(sections)
	at := uint32((headers + align - 1) / align * align)
	machine := map[boot.Arch]uint16{boot.AMD64: pe.IMAGE_FILE_MACHINE_AMD64, boot.ARM64: pe.IMAGE_FILE_MACHINE_ARM64}[arch]
	var out bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			panic(err) // a write of fixed size to a buffer never fails
		}
	}
	out.Write(append([]byte("MZ"), make([]byte, 58)...))
	write(uint32(dos))
	out.WriteString("PE\x00\x00")
	write(pe.FileHeader{Machine: machine, NumberOfSections: uint16(len(sections)), SizeOfOptionalHeader: 240})
	write(pe.OptionalHeader64{Magic: 0x20b, Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: 16})
	var data []byte
	for _, s := range sections {
		h := pe.SectionHeader32{VirtualSize: uint32(len(s.Data)), SizeOfRawData: uint32(len(s.Data)), PointerToRawData: at + uint32(len(data))}
		copy(h.Name[:], s.Name)
		write(h)
		data = append(data, s.Data...)
	}
	out.Write(make([]byte, int(at)-out.Len()))
	return append(out.Bytes(), data...)
}

// UKI returns a unified kernel image whose kernel has the release uname.
func UKI(arch boot.Arch, uname string) []byte {
	return Program(arch, Section{".osrel", "ID=test\nPRETTY_NAME=\"Test " + uname + "\"\n\x00"}, Section{".cmdline", "quiet"},
		Section{".uname", uname}, Section{".linux", "kernel of " + uname})
}

// ESP returns the files of the ESP of an image: systemd-boot, and a UKI with an addon.
func ESP(arch boot.Arch, uname string) fstest.MapFS {
	name := map[boot.Arch]string{boot.AMD64: "BOOTX64.EFI", boot.ARM64: "BOOTAA64.EFI"}[arch]
	file := func(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data, Mode: 0o755} }
	return fstest.MapFS{
		path.Join("EFI/BOOT", name):                             file(Program(arch, Section{".sdmagic", "for " + uname})),
		"EFI/BOOT/mm.efi":                                       file(Program(arch, Section{".text", "helper for " + uname})),
		"EFI/Linux/linux-" + uname + ".efi":                     file(UKI(arch, uname)),
		"EFI/Linux/linux-" + uname + ".efi.extra.d/x.addon.efi": file(Program(arch, Section{".cmdline", "addon of " + uname})),
	}
}

// Payload returns the boot files of an image whose kernel has the release uname.
func Payload(t testing.TB, uname string) *boot.Payload {
	t.Helper()
	return read(t, ESP(boot.AMD64, uname), boot.AMD64)
}

func read(t testing.TB, esp fs.FS, arch boot.Arch) *boot.Payload {
	t.Helper()
	p, err := boot.Read(esp, arch)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
