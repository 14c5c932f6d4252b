package extension

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

// Whoever builds, signs and verifies an image and the host that gets it go by one rule.
func TestAnImageWithProgramsForAnotherArchitectureIsRefused(t *testing.T) {
	files := withRelease("app", goodText)
	files["usr/bin/tool"] = hosttest.ELF(183)
	image := gptOf(t, part{rootAMD64, erofsOf(t, files)})
	if _, err := inspectBytes(t, Sysext, image, noMounter); errkind.Of(err) != errkind.Incompatible || !strings.Contains(err.Error(), "a program for arm64") {
		t.Errorf("os.sysexts: %v", err)
	}
}
