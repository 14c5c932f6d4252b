package ddi_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/trust"
)

var now = time.Unix(1_700_000_000, 0)

// signedImage makes a small image with a trusted signature, by what a user of
// the package can call.
func signedImage(t *testing.T) ([]byte, trust.Policy) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	write("host/etc/trident/trust.d/example.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	policy, err := trust.Load(filepath.Join(dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	write("tree/usr/x", []byte(strings.Repeat("x", 5000)))
	path := filepath.Join(dir, "x.raw")
	root, err := ddi.Build(t.Context(), path, ddi.BuildOptions{Tree: filepath.Join(dir, "tree"), Arch: ddi.AMD64, Epoch: now})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ddi.SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := ddi.Attach(path, sig, cert); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, policy
}

// examine is all that stands between a file and being merged.
func examine(t *testing.T, b []byte, policy trust.Policy) error {
	m, err := ddi.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	_, err = policy.Verify(t.Context(), m, now, nil)
	return err
}

func TestEveryByteOfASignedImageCounts(t *testing.T) {
	b, policy := signedImage(t)
	if err := examine(t, b, policy); err != nil {
		t.Fatal(err)
	}
	m, err := ddi.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	uuid := int(m.Table().Partitions[1].Offset()) + 16 // the bytes that are free
	for at := range b {
		if b[at] == 0 && at%5 != 0 { // most of the file is padding
			continue
		}
		bit := byte(1) << (at % 8)
		b[at] ^= bit
		err := examine(t, b, policy)
		if free := at >= uuid && at < uuid+16; (err == nil) != free {
			t.Errorf("byte %d ^ %#x: %v", at, bit, err)
		}
		b[at] ^= bit
	}
}

func TestAnImageCutAnywhereIsRefused(t *testing.T) {
	b, policy := signedImage(t)
	for n := 0; n < len(b); n += 509 {
		if err := examine(t, b[:n], policy); err == nil {
			t.Errorf("%d of %d bytes are enough", n, len(b))
		}
	}
}
