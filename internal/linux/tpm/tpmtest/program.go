package tpmtest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/trident-project/trident/internal/linux/tpm"
)

// A Section is a section of a program that NewProgram makes.
type Section struct {
	Name    string
	Content []byte
}

// PE returns an EFI program for x86-64 in the PE format that has the sections. It does
// nothing.
func PE(sections ...Section) []byte {
	const (
		peAt, optionalSize, sectionSize = 64, 240, 40
		align, x86                      = 512, 0x8664
	)
	le := binary.LittleEndian
	round := func(n int) int { return (n + align - 1) / align * align }
	headers := round(peAt + 24 + optionalSize + sectionSize*len(sections))
	out := make([]byte, headers)
	copy(out, "MZ")
	le.PutUint32(out[60:], peAt)
	pe := out[peAt:]
	copy(pe, "PE\x00\x00")
	le.PutUint16(pe[4:], x86)
	le.PutUint16(pe[6:], uint16(len(sections)))
	le.PutUint16(pe[20:], optionalSize)
	le.PutUint16(pe[22:], 0x22) // executable, large addresses
	optional := pe[24:]
	le.PutUint16(optional, 0x20b)
	le.PutUint32(optional[32:], align)           // of sections
	le.PutUint32(optional[36:], align)           // of the file
	le.PutUint32(optional[60:], uint32(headers)) // SizeOfHeaders
	le.PutUint16(optional[68:], 10)              // EFI application
	le.PutUint32(optional[108:], 16)             // directories
	address := headers
	for i, s := range sections {
		h := out[peAt+24+optionalSize+i*sectionSize:]
		copy(h[:8], s.Name)
		le.PutUint32(h[8:], uint32(len(s.Content)))
		le.PutUint32(h[12:], uint32(address))
		le.PutUint32(h[16:], uint32(round(len(s.Content))))
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], 0x40000040) // initialized, readable
		address += round(len(s.Content))
		out = append(out, s.Content...)
		out = append(out, make([]byte, round(len(s.Content))-len(s.Content))...)
	}
	le.PutUint32(out[peAt+24+56:], uint32(address)) // SizeOfImage
	return out
}

// UKI returns a UKI whose kernel and command line differ by name.
func UKI(name string) []byte {
	return PE(Section{".linux", PE(Section{".text", []byte("kernel " + name)})}, Section{".osrel", []byte("ID=test\n")},
		Section{".cmdline", []byte("quiet " + name)}, Section{".initrd", []byte("initrd")}, Section{".uname", []byte(name)})
}

// Loader returns a boot loader that differs by name.
func Loader(name string) []byte { return PE(Section{".text", []byte("loader " + name)}) }

// Open opens a program, or fails the test.
func Open(t testing.TB, content []byte) *tpm.Program {
	t.Helper()
	p, err := tpm.OpenProgram(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// NewBoot returns a boot whose loader and UKI differ by their names.
func NewBoot(t testing.TB, loader, uki string) tpm.Boot {
	t.Helper()
	return tpm.Boot{Loader: Open(t, Loader(loader)), UKI: Open(t, UKI(uki))}
}
