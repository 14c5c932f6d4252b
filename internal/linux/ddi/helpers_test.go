package ddi

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

// signer makes a certificate for a key, signed by itself.
func signer(tb testing.TB, key crypto.Signer) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject:      pkix.Name{CommonName: "Example Images", Organization: []string{"Example"}},
		NotBefore:    epoch, NotAfter: epoch.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func rsaKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// writeTree makes files in a new folder: content by path, "-> target" for a
// link, a trailing slash for a folder.
func writeTree(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		var err error
		switch {
		case name[len(name)-1] == '/':
			err = os.MkdirAll(p, 0o755)
		case len(content) > 3 && content[:3] == "-> ":
			err = os.Symlink(content[3:], p)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// sample is a tree with one of everything that an image can have.
func sample(tb testing.TB) string {
	tb.Helper()
	big := bytes.Repeat([]byte("trident "), 100_000)
	dir := writeTree(tb, map[string]string{
		"usr/bin/tridentd":                                      string(big),
		"usr/bin/trident":                                       "-> tridentd",
		"usr/lib/systemd/system/masked.service":                 "-> /dev/null",
		"usr/lib/extension-release.d/extension-release.trident": "ID=_any\nSYSEXT_ID=trident\n",
		"usr/share/empty":                                       "",
		"usr/share/block":                                       string(big[:4096]),
		"opt/vendor/":                                           "",
		"etc/passwd":                                            "is left out",
	})
	if err := os.Chmod(filepath.Join(dir, "usr/bin/tridentd"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// built returns the path of a new unsigned image of a tree.
func built(tb testing.TB, tree string) (string, [32]byte) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "trident.raw")
	root, err := Build(tb.Context(), path, BuildOptions{Tree: tree, Arch: AMD64, Epoch: epoch})
	if err != nil {
		tb.Fatal(err)
	}
	return path, root
}

// signed returns the bytes of a new signed image and the certificate.
func signed(tb testing.TB, tree string) ([]byte, *x509.Certificate) {
	tb.Helper()
	path, root := built(tb, tree)
	key := rsaKey(tb)
	cert := signer(tb, key)
	sig, err := SignRootHash(root, cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	if err := Attach(path, sig, cert); err != nil {
		tb.Fatal(err)
	}
	return readFile(tb, path), cert
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func openBytes(tb testing.TB, b []byte) *Image {
	tb.Helper()
	m, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func mustFS(tb testing.TB, m *Image) fs.FS {
	tb.Helper()
	fsys, err := m.FS()
	if err != nil {
		tb.Fatal(err)
	}
	return fsys
}
