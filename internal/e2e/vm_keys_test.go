//go:build vm

package e2e

import (
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/internal/errkind"
)

// The vendor changes its key: hosts learn the new one, get images that it has signed, and
// then do not trust the old one any more.
func TestAVendorChangesItsKey(t *testing.T) {
	t.Parallel()
	g := start(t)
	next, err := product.NewSigner("The next key")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := g.f.maker.Daemon(t.Context(), "./cmd/tridentd", "2.0.5")
	if err != nil {
		t.Fatal(err)
	}
	image, err := g.f.maker.Changed(t.Context(), "trident_2.0.5", product.Change{Version: "2.0.5", Daemon: daemon, Signer: next})
	if err != nil {
		t.Fatal(err)
	}
	g.mustUpgrade("trident_2.0.0_x86-64.raw")

	if op, errs, code := g.offer("stage", image); code != 5 || op.Failure.GetReason() != string(errkind.Untrusted) || !strings.Contains(errs, "The next key") {
		t.Fatalf("before the host knows the key: %d, %v\n%s", code, op.Failure, errs)
	}
	g.sh("mkdir -p /etc/trident/trust.d /etc/verity.d; cat > /etc/trident/trust.d/next.crt <<'END'\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: next.Cert.Raw})) + "END\ncp /etc/trident/trust.d/next.crt /etc/verity.d/")
	if op, errs, code := g.offer("upgrade", image, "--soak", "2s", "--deadline", "4m", "--allow-read-only-usr"); code != 0 {
		t.Fatalf("with both keys: %d, %v\n%s", code, op.Failure, errs)
	}
	g.checkVersion("2.0.5")

	// A withdrawn key does not count for what the host has, either.
	g.sh("for f in /usr/lib/trident/trust.d/*; do : > /etc/trident/trust.d/${f##*/}; done")
	if op, errs, code := g.offer("upgrade", filepath.Join(g.f.dir, "trident_2.1.0.raw")); code != 5 || op.Failure.GetReason() != string(errkind.Untrusted) {
		t.Errorf("an image of the old key: %d, %v\n%s", code, op.Failure, errs)
	}
	g.checkVersion("2.0.5")
	if _, errs, code := g.trident("self", "rollback", "--soak", "2s", "--deadline", "4m"); code != 0 {
		t.Errorf("a rollback passes over the image of the old key: %d, %s", code, errs)
	}
	g.checkVersion(base)
	if op, errs, code := g.offer("upgrade", image, "--soak", "2s", "--deadline", "4m", "--allow-read-only-usr"); code != 0 {
		t.Fatalf("with the new key alone: %d, %v\n%s", code, op.Failure, errs)
	}
	g.reboot()
	g.checkVersion("2.0.5")
}
