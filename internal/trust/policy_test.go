package trust

import (
	"crypto/elliptic"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
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

func TestTheAdministratorsFilesOverrideTheVendors(t *testing.T) {
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
		return Certificate{"CN=" + id.cert.Subject.CommonName, trustedCert{Certificate: id.cert}.fingerprint(), notBefore, notAfter, path}
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
		"words":                        "does not contain a certificate in PEM form",
		string(id.cert.Raw):            "does not contain a certificate in PEM form",
		id.pem() + key:                 `its block "PRIVATE KEY"`,
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

// A block that is cut off or damaged is not passed over: the file may have been
// meant to take trust away, or to add it.
func TestACutBlockIsAnErrorThatNamesTheFile(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 1)
	one, two := strings.TrimSuffix(a.pem(), "\n"), b.pem()
	contents := map[string]string{
		"no line that begins the second": one + "\n" + strings.Join(strings.SplitAfter(two, "\n")[1:], ""),
		"damaged between two good ones":  one + "\n" + strings.Replace(two, "M", "*", 1) + one + "\n",
		"the first is damaged":           strings.Replace(two, "M", "*", 1) + one + "\n",
	}
	for cut := 1; cut < len(two)-1; cut++ { // the last byte is a line break
		contents[fmt.Sprintf("after %d bytes of the second", cut)] = one + "\n" + two[:cut]
	}
	for name, content := range contents {
		root := t.TempDir()
		write(t, root, map[string]string{"usr/lib/trident/trust.d/a.crt": content})
		if p, err := Load(root); err == nil || !strings.Contains(err.Error(), "/usr/lib/trident/trust.d/a.crt") || errkind.Hint(err) == "" {
			t.Errorf("%s: %d certificates, %v", name, len(p.Certificates()), err)
		}
		if _, err := LoadFiles(filepath.Join(root, "usr/lib/trident/trust.d")); err == nil {
			t.Errorf("%s: taken from a folder that is named", name)
		}
	}
}

func TestALinkToNowhereRemovesTheVendorsCertificateAndIsShown(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 1)
	root := t.TempDir()
	write(t, root, map[string]string{"usr/lib/trident/trust.d/a.crt": a.pem(), "usr/lib/trident/trust.d/b.crt": b.pem(), "etc/trident/trust.d/README": ""})
	if err := os.Symlink("/run/gone.crt", filepath.Join(root, "etc/trident/trust.d/a.crt")); err != nil {
		t.Fatal(err)
	}
	p, err := Load(root)
	if err != nil || len(p.Certificates()) != 1 || p.Certificates()[0].Subject != "CN=b" {
		t.Errorf("trusted are %v, %v", p.Certificates(), err)
	}
	certs, faults := Survey(root)
	if len(certs) != 1 || len(faults) != 1 || !strings.Contains(faults[0].Error(), "/etc/trident/trust.d/a.crt") {
		t.Errorf("survey: %v, %v", certs, faults)
	}
}

// A folder that is a link to nowhere may have held masks.
func TestAFolderThatIsALinkToNowhereIsAnError(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	for _, link := range []string{"etc/trident", "etc/trident/trust.d"} {
		root := t.TempDir()
		write(t, root, map[string]string{"usr/lib/trident/trust.d/a.crt": a.pem(), "etc/x": ""})
		if err := errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(link)), 0o755), os.Symlink("/run/gone", filepath.Join(root, link))); err != nil {
			t.Fatal(err)
		}
		if p, err := Load(root); err == nil || !strings.Contains(err.Error(), "/"+link) {
			t.Errorf("%s: %v, %v", link, p.Certificates(), err)
		}
		if certs, faults := Survey(root); len(certs) != 1 || len(faults) != 1 {
			t.Errorf("%s: survey %v, %v", link, certs, faults)
		}
	}
}

func TestOneBrokenFileKeepsAllFromCountingButNotFromBeingShown(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	root := t.TempDir()
	write(t, root, map[string]string{"usr/lib/trident/trust.d/a.crt": a.pem(), "usr/lib/trident/trust.d/b.crt": "words", "etc/trident/trust.d/c.crt/x": ""})
	if _, err := Load(root); err == nil {
		t.Error("broken files were passed over")
	}
	certs, faults := Survey(root)
	if len(certs) != 1 || certs[0].Subject != "CN=a" || len(faults) != 2 {
		t.Errorf("survey: %v, %v", certs, faults)
	}
}
