//go:build vm && draft

package e2e

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/e2e/chrome"
)

// In Chromium a person upgrades a machine through its gateway, sees a bad version fail, and
// rolls back. Nothing is made up: the daemon restarts, and systemd merges the images.
func TestAPersonServicesAMachineInTheBrowser(t *testing.T) {
	t.Parallel()
	g := start(t)
	lap := stopwatch(t)
	const passphrase = "a passphrase of a person"
	g.rpm("--install /share/trident-gateway-" + base + "-1.x86_64.rpm")
	g.sh("echo '" + passphrase + "' | trident-gateway install --name localhost --listen 127.0.0.1:7443")
	address, err := g.ForwardTCP("127.0.0.1:7443")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Abs("testdata/page")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := chrome.Install(t.Context(), dir, scripts); err != nil {
		t.Fatal(err)
	}
	lap("gateway and browser installed")
	out, err := chrome.Drive(t.Context(), dir, "machine.mjs", "PASSPHRASE="+passphrase, "PAGE=https://localhost:"+port, "PATIENCE=300000",
		"IMAGE="+filepath.Join(g.f.dir, "trident_2.0.0_x86-64.raw"), "BAD="+filepath.Join(g.f.dir, "exits.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	g.checkVersion(base)
}
