package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
)

func TestStartNetworkChangesNothingWithoutANetwork(t *testing.T) {
	root := t.TempDir()
	for name, c := range map[string]struct {
		config string
		says   string
		named  string // upstream's name of the error
	}{
		"no network": {"os: {}\n", "The Host Configuration has no network; everything stays as it is.\n", ""},
		"no mapping": {"- 1\n", "", errkind.NameParseHostConfiguration},
	} {
		config := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(config, []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		a, _, stderr := commandtest.New()
		err := startNetwork(t.Context(), &startNetworkOptions{app: a, config: config, root: root})
		if (err != nil) != (c.named != "") || errkind.Variant(err) != c.named || stderr.String() != c.says {
			t.Errorf("%s: %v (%s), it says %q", name, err, errkind.Variant(err), stderr)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "start the network: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
