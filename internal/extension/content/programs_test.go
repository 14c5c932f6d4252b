package content

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
)

// elf is the beginning of a program for a machine.
func elf(machine uint16) *fstest.MapFile {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 3)
	binary.LittleEndian.PutUint16(b[18:], machine)
	return &fstest.MapFile{Data: b, Mode: 0o755}
}

func TestProgramsAreForTheArchitectureOfTheImage(t *testing.T) {
	const amd, i386, arm = 62, 3, 183
	script := &fstest.MapFile{Data: []byte("#!/bin/sh\n"), Mode: 0o755}
	library := elf(arm)
	library.Mode = 0o644
	data := elf(arm)
	data.Mode = 0o644
	for title, c := range map[string]struct {
		files fstest.MapFS
		want  string // "" for a good one
	}{
		"its own":                          {fstest.MapFS{"usr/bin/tool": elf(amd), "usr/bin/script": script}, ""},
		"those of 32 bits":                 {fstest.MapFS{"usr/bin/tool": elf(i386)}, ""},
		"no program":                       {fstest.MapFS{"usr/share/doc/x": {Data: []byte("x")}}, ""},
		"another":                          {fstest.MapFS{"usr/bin/tool": elf(arm)}, `"usr/bin/tool" is a program for arm64, and the image is for x86-64`},
		"another beside its own":           {fstest.MapFS{"usr/bin/a": elf(amd), "usr/sbin/tool": elf(arm)}, `"usr/sbin/tool"`},
		"another below opt":                {fstest.MapFS{"usr/bin/a": elf(amd), "opt/x/bin/tool": elf(arm)}, `"opt/x/bin/tool"`},
		"another elsewhere":                {fstest.MapFS{"usr/lib/app/tool": elf(arm)}, `"usr/lib/app/tool"`},
		"another elsewhere beside its own": {fstest.MapFS{"usr/bin/a": elf(amd), "usr/aarch64-linux-gnu/bin/ld": elf(arm)}, ""},
		"a library":                        {fstest.MapFS{"usr/lib/libx.so.1": library}, "libx.so.1"},
		"firmware":                         {fstest.MapFS{"usr/lib/firmware/dsp.mbn": data}, ""},
	} {
		err := CheckPrograms(c.files, "x86-64")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Incompatible || errkind.Hint(err) == "") {
			t.Errorf("%s: %v (%s), want %q", title, err, errkind.Of(err), c.want)
		}
	}
}
