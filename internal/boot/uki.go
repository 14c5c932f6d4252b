package boot

import (
	"debug/pe"
	"io"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// UKI has the facts in the header of a unified kernel image (UAPI.5, Unified Kernel Image).
type UKI struct {
	Arch      Arch
	OSRelease string // the text of os-release(5)
	Cmdline   string // sealed: what the kernel gets
	Uname     string // the kernel's release; "" when it does not say
}

// maxText bounds the sections that ReadUKI reads; real ones have less than 4 KiB.
const maxText = 64 << 10

// ReadUKI reads the header of a UKI of size bytes. It does not verify the content. The error
// is of kind Corrupt for a truncated UKI, Incompatible for one of an unknown architecture,
// and Invalid for one that systemd-boot would not show.
func ReadUKI(r io.ReaderAt, size int64) (UKI, error) {
	var u UKI
	file, arch, err := readPE(r, size)
	if err != nil {
		return u, err
	}
	u.Arch = arch
	if s := file.Section(".linux"); s == nil || s.Size == 0 {
		return u, errkind.Errorf(errkind.Invalid, "it has no kernel: it is not a unified kernel image")
	}
	for name, field := range map[string]*string{".osrel": &u.OSRelease, ".cmdline": &u.Cmdline, ".uname": &u.Uname} {
		if *field, err = text(file, name); err != nil {
			return u, err
		}
	}
	// systemd-boot leaves out what it cannot give a title.
	if !slices.ContainsFunc(strings.Split(u.OSRelease, "\n"), titled) {
		return u, errkind.Errorf(errkind.Invalid, "its .osrel has no name of a system: systemd-boot would not show it")
	}
	return u, nil
}

func titled(line string) bool {
	key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
	return slices.Contains([]string{"PRETTY_NAME", "IMAGE_ID", "NAME", "ID"}, key) && strings.Trim(value, `"' `) != ""
}

// readPE reads the header of a program for UEFI and checks that the file has all sections
// of the header.
func readPE(r io.ReaderAt, size int64) (*pe.File, Arch, error) {
	file, err := pe.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, "", errkind.Errorf(errkind.Corrupt, "read its header: %w", err)
	}
	arch, ok := map[uint16]Arch{pe.IMAGE_FILE_MACHINE_AMD64: AMD64, pe.IMAGE_FILE_MACHINE_ARM64: ARM64}[file.Machine]
	opt, is64 := file.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || !is64 {
		return nil, "", errkind.Errorf(errkind.Incompatible, "it is for machine %#x, which is not supported", file.Machine)
	}
	if opt.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
		return nil, "", errkind.Errorf(errkind.Invalid, "it is not a program for UEFI")
	}
	for _, s := range file.Sections {
		if s.Offset != 0 && int64(s.Offset)+int64(s.Size) > size {
			return nil, "", errkind.Errorf(errkind.Corrupt, "it is cut off: section %q ends after its %d bytes", s.Name, size)
		}
	}
	if c := opt.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]; int64(c.VirtualAddress)+int64(c.Size) > size {
		return nil, "", errkind.Errorf(errkind.Corrupt, "it is cut off: its signature ends after its %d bytes", size)
	}
	return file, arch, nil
}

// text returns the content of a section of text, or "" if there is no such section.
func text(file *pe.File, name string) (string, error) {
	s := file.Section(name)
	if s == nil {
		return "", nil
	}
	size := min(s.VirtualSize, s.Size)
	if size > maxText {
		return "", errkind.Errorf(errkind.TooLarge, "its section %s has more than %d bytes", name, maxText)
	}
	data := make([]byte, size)
	if n, err := s.ReadAt(data, 0); n < len(data) {
		return "", errkind.Errorf(errkind.Corrupt, "read its section %s: %w", name, err)
	}
	return strings.TrimRight(string(data), "\x00\n "), nil
}
