//go:build root

package trust

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/trident-project/trident/internal/rescue"
)

// Extensions of others are merged over /usr and /etc. They bring a certificate,
// take the vendor's away, and claim a base of version 99.0.0: none of it counts.
func TestNoMergedExtensionDecidesWhomAHostTrusts(t *testing.T) {
	ours := newIdentity(t, ecdsaKey(t, elliptic.P256()), "ours", 1)
	evil := newIdentity(t, ecdsaKey(t, elliptic.P256()), "evil", 1)
	root, layers := t.TempDir(), t.TempDir()
	write(t, root, map[string]string{
		"usr/lib/trident/trust.d/ours.crt": ours.pem(), "usr/lib/trident/base.json": `{"version":"1.0.0"}`, "etc/hostname": "x",
	})
	write(t, layers, map[string]string{
		"meta/.systemd-sysext/extensions": "foo\n", "usr/lib/trident/trust.d/evil.crt": evil.pem(), "usr/lib/trident/trust.d/ours.crt": "",
		"usr/lib/trident/base.json": `{"version":"99.0.0"}`, "confmeta/.systemd-confext/confexts": "foo\n", "etc/trident/trust.d/evil.crt": evil.pem(),
	})
	for dir, meta := range map[string]string{"usr": "meta", "etc": "confmeta"} {
		at := filepath.Join(root, dir)
		lower := strings.Join([]string{filepath.Join(layers, meta), filepath.Join(layers, dir), at}, ":")
		if err := syscall.Mount("sysext", at, "overlay", syscall.MS_RDONLY, "lowerdir="+lower); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	if data, err := os.ReadFile(filepath.Join(root, "usr/lib/trident/base.json")); err != nil || !strings.Contains(string(data), "99") {
		t.Fatalf("the extension is not merged: %q, %v", data, err)
	}
	p, err := Load(root)
	if certs := p.Certificates(); err != nil || len(certs) != 1 || certs[0].Subject != "CN=ours" {
		t.Errorf("trusted are %v, %v", certs, err)
	}
	if v, err := rescue.BaseVersion(root); v != "1.0.0" || err != nil {
		t.Errorf("the base is %q, %v", v, err)
	}
}
