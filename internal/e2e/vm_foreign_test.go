//go:build vm

package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAForeignClientServicesAHost(t *testing.T) {
	t.Parallel()
	foreign := foreignClient(t)
	g := start(t)
	config := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(config, []byte(hostConfig([]extensionOf{g.tool("one")}, nil, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign("-socket", g.socket, "-config", config)
}
