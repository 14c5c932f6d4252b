package trust

import (
	"crypto/elliptic"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func TestFilesAndFoldersThatTheCallerNamesAreTrusted(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 1)
	dir := t.TempDir()
	write(t, dir, map[string]string{"one.pem": a.pem(), "d/b.crt": b.pem() + a.pem(), "d/README": "no certificate"})
	p, err := LoadFiles(filepath.Join(dir, "one.pem"), filepath.Join(dir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Certificates() {
		got = append(got, c.Subject+" "+strings.TrimPrefix(c.Path, dir))
	}
	if diff := cmp.Diff([]string{"CN=a /one.pem", "CN=b /d/b.crt"}, got); diff != "" {
		t.Errorf("certificates (-want +got):\n%s", diff)
	}
}

func TestANamedFileThatIsNoCertificateIsAnErrorThatNamesIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"words": "no certificate", "big": strings.Repeat("x", maxFile+1)})
	for name, kind := range map[string]errkind.Kind{"words": errkind.Invalid, "big": errkind.TooLarge} {
		_, err := LoadFiles(filepath.Join(dir, name))
		if errkind.Of(err) != kind || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s: error %v of kind %s", name, err, errkind.Of(err))
		}
	}
	if _, err := LoadFiles(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A folder without a certificate trusts nobody, which is no fault of the host.
func TestAFolderWithoutCertificatesIsNamed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"c.pem": "x"})
	_, err := LoadFiles(dir)
	if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), dir+" has no file whose name ends in .crt") || errkind.Hint(err) == "" {
		t.Errorf("%v (%s, hint %q)", err, errkind.Of(err), errkind.Hint(err))
	}
}
