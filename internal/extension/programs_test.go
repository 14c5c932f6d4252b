package extension

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

// Whoever builds, signs and verifies an image and the host that gets it go by one rule.
func TestAnImageWithProgramsForAnotherArchitectureIsRefused(t *testing.T) {
	files := withRelease("app", goodText)
	files["usr/bin/tool"] = elf(183)
	image := gptOf(t, part{rootAMD64, erofsOf(t, files)})
	if _, err := inspectBytes(t, Sysext, image, noMounter); errkind.Of(err) != errkind.Incompatible || !strings.Contains(err.Error(), "a program for arm64") {
		t.Errorf("os.sysexts: %v", err)
	}
}
