package hostconfig

import (
	"os"
	"path/filepath"
	"testing"
)

// samplesDir has documents of upstream, beside the repository.
const samplesDir = "../../../shared/testdata/hostconfig"

func TestSamplesOfUpstreamHaveNoFault(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(samplesDir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("no samples in " + samplesDir)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, report := Parse(text)
		for _, f := range report {
			t.Logf("%s: %s", filepath.Base(name), f)
		}
		if err := report.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
