package content

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

func TestProgramsAreForTheArchitectureOfTheImage(t *testing.T) {
	const amd, i386, arm = 62, 3, 183
	script := &fstest.MapFile{Data: []byte("#!/bin/sh\n"), Mode: 0o755}
	library := hosttest.ELF(arm)
	library.Mode = 0o644
	data := hosttest.ELF(arm)
	data.Mode = 0o644
	for title, c := range map[string]struct {
		files fstest.MapFS
		want  string // "" for a good one
	}{
		"its own":                          {fstest.MapFS{"usr/bin/tool": hosttest.ELF(amd), "usr/bin/script": script}, ""},
		"those of 32 bits":                 {fstest.MapFS{"usr/bin/tool": hosttest.ELF(i386)}, ""},
		"no program":                       {fstest.MapFS{"usr/share/doc/x": {Data: []byte("x")}}, ""},
		"another":                          {fstest.MapFS{"usr/bin/tool": hosttest.ELF(arm)}, `"usr/bin/tool" is a program for arm64, and the image is for x86-64`},
		"another beside its own":           {fstest.MapFS{"usr/bin/a": hosttest.ELF(amd), "usr/sbin/tool": hosttest.ELF(arm)}, `"usr/sbin/tool"`},
		"another below opt":                {fstest.MapFS{"usr/bin/a": hosttest.ELF(amd), "opt/x/bin/tool": hosttest.ELF(arm)}, `"opt/x/bin/tool"`},
		"another elsewhere":                {fstest.MapFS{"usr/lib/app/tool": hosttest.ELF(arm)}, `"usr/lib/app/tool"`},
		"another elsewhere beside its own": {fstest.MapFS{"usr/bin/a": hosttest.ELF(amd), "usr/aarch64-linux-gnu/bin/ld": hosttest.ELF(arm)}, ""},
		"a library":                        {fstest.MapFS{"usr/lib/libx.so.1": library}, "libx.so.1"},
		"firmware":                         {fstest.MapFS{"usr/lib/firmware/dsp.mbn": data}, ""},
	} {
		err := CheckPrograms(c.files, "x86-64")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errkind.Of(err) != errkind.Incompatible || errkind.Hint(err) == "") {
			t.Errorf("%s: %v (%s), want %q", title, err, errkind.Of(err), c.want)
		}
	}
}
