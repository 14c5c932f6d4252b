package filekind

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
)

func TestAProgramNamesItsArchitecture(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if got := Program(self[:ProgramHead]); got != runtime.GOARCH {
		t.Errorf("this program is for %q, not %q", runtime.GOARCH, got)
	}
	elf := func(kind, machine uint16) []byte {
		b := make([]byte, 64)
		copy(b, "\x7fELF\x02\x01\x01")
		binary.LittleEndian.PutUint16(b[16:], kind)
		binary.LittleEndian.PutUint16(b[18:], machine)
		return b
	}
	big := []byte("\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16")
	pe := func(at int, machine uint16) []byte {
		b := make([]byte, 512)
		copy(b, "MZ")
		binary.LittleEndian.PutUint32(b[0x3c:], uint32(at))
		if at < 500 {
			copy(b[at:], "PE\x00\x00")
			binary.LittleEndian.PutUint16(b[at+4:], machine)
		}
		return b
	}
	for _, c := range []struct {
		title string
		head  []byte
		want  string
	}{
		{"a program", elf(2, 62), "amd64"},
		{"a library", elf(3, 183), "arm64"},
		{"an object", elf(1, 62), ""},
		{"an unknown machine", elf(2, 0x999), "machine 0x999"},
		{"big endian", big, "s390x"},
		{"a short ELF", []byte("\x7fELF"), ""},
		{"UEFI", pe(0x80, 0x8664), "amd64"},
		{"UEFI on arm64", pe(0xf0, 0xaa64), "arm64"},
		{"DOS", pe(0x7fffffff, 0), ""},
		{"a script", []byte("#!/bin/sh\n"), ""},
		{"nothing", nil, ""},
	} {
		if got := Program(c.head); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
}
