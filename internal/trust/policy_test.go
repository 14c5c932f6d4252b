package trust

import (
	"crypto/elliptic"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheAdministratorsFilesStandInForTheVendors(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 1)
	c := newIdentity(t, ecdsaKey(t, elliptic.P256()), "c", 1)
	root := t.TempDir()
	write(t, root, map[string]string{
		"usr/lib/trident/trust.d/1.crt":     "A word before.\n" + a.pem() + "\nand behind\n",
		"usr/lib/trident/trust.d/2.crt":     c.pem(),
		"usr/lib/trident/trust.d/3.crt":     c.pem(),
		"etc/trident/trust.d/2.crt":         b.pem() + a.pem(),
		"etc/trident/trust.d/3.crt":         "",
		"etc/trident/trust.d/README":        "no certificate",
		"usr/lib/trident/trust.d/4.crt.bak": "no certificate",
	})
	p, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	cert := func(id identity, path string) Certificate {
		return Certificate{"CN=" + id.cert.Subject.CommonName, trusted{Certificate: id.cert}.fingerprint(), notBefore, notAfter, path}
	}
	want := []Certificate{cert(a, "/usr/lib/trident/trust.d/1.crt"), cert(b, "/etc/trident/trust.d/2.crt")}
	if diff := cmp.Diff(want, p.Certificates()); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatIsNoCertificateIsAnErrorThatNamesIt(t *testing.T) {
	id := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for content, want := range map[string]string{
		"words":                        "no certificate in PEM form",
		string(id.cert.Raw):            "no certificate in PEM form",
		id.pem() + key:                 `it holds a "PRIVATE KEY"`,
		broken:                         "x509",
		strings.Repeat("x", maxFile+1): "more than 65536 bytes",
	} {
		root := t.TempDir()
		write(t, root, map[string]string{"etc/trident/trust.d/a.crt": content})
		_, err := Load(root)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/etc/trident/trust.d/a.crt") {
			t.Errorf("got %v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestAHostWithoutCertificatesTrustsNone(t *testing.T) {
	p, err := Load(t.TempDir())
	if err != nil || len(p.Certificates()) != 0 {
		t.Errorf("got %v, %v", p, err)
	}
}
