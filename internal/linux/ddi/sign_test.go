package ddi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/trident-project/trident/internal/errkind"
)

func TestSigningAddsNothingButASignature(t *testing.T) {
	path, root := built(t, sample(t))
	before := readFile(t, path)
	key := rsaKey(t)
	cert := signer(t, key)
	sig, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second replaces the first
		if err := Attach(path, sig, cert); err != nil {
			t.Fatal(err)
		}
	}
	after := readFile(t, path)
	m := openBytes(t, after)
	if got := m.Signature(); got == nil || !bytes.Equal(got.PKCS7, sig) || got.RootHash != root {
		t.Errorf("signature %v", got)
	}
	data := m.Table().Partitions
	if len(data) != 3 || len(after) != len(before) {
		t.Fatalf("%d partitions, %d bytes after %d", len(data), len(after), len(before))
	}
	at, end := data[0].Offset(), data[1].Offset()+data[1].Size()
	if !bytes.Equal(before[at:end], after[at:end]) {
		t.Error("data or tree changed")
	}
}

func TestSigningAtOnceMakesTheSameImage(t *testing.T) {
	tree, key := sample(t), rsaKey(t)
	later, root := built(t, tree)
	cert := signer(t, key)
	sig, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := Attach(later, sig, cert); err != nil {
		t.Fatal(err)
	}
	atOnce := filepath.Join(t.TempDir(), "x.raw")
	if _, err := Build(t.Context(), atOnce, BuildOptions{Tree: tree, Arch: AMD64, Epoch: epoch, Key: key, Cert: cert}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readFile(t, later), readFile(t, atOnce)) {
		t.Error("they differ")
	}
	_, err = Build(t.Context(), atOnce, BuildOptions{Tree: tree, Arch: AMD64, Epoch: epoch, Key: rsaKey(t), Cert: cert})
	if errkind.Of(err) != errkind.Invalid || openBytes(t, readFile(t, atOnce)).Signature() == nil {
		t.Errorf("with another key: %v", err)
	}
}

func TestAForeignSignatureIsNotAttached(t *testing.T) {
	path, root := built(t, sample(t))
	before := readFile(t, path)
	key, other := rsaKey(t), rsaKey(t)
	cert, otherCert := signer(t, key), signer(t, other)
	sign := func(root [32]byte, cert *x509.Certificate, key crypto.Signer) []byte {
		sig, err := SignRootHash(root, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	changed := root
	changed[0]++
	tests := []struct {
		name string
		sig  []byte
		want string
		kind errkind.Kind
	}{
		{"of another root hash", sign(changed, cert, key), "is not one of root hash", errkind.Untrusted},
		{"by another key", sign(root, otherCert, other), "is not one of root hash", errkind.Untrusted},
		{"with another algorithm name", libraryPKCS7(t, root, cert, key, false), "is of algorithm", errkind.Invalid},
		{"with content", libraryPKCS7(t, root, cert, key, true), "is not detached", errkind.Invalid},
		{"with attributes", attributes(t, root, cert, key), "has attributes", errkind.Invalid},
		{"cut short", sign(root, cert, key)[:200], "is not a PKCS#7", errkind.Invalid},
		{"of nothing", nil, "is not a PKCS#7", errkind.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Attach(path, tt.sig, cert)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != tt.kind {
				t.Errorf("got %v (%s)", err, errkind.Of(err))
			}
			if !bytes.Equal(before, readFile(t, path)) {
				t.Error("the image changed")
			}
		})
	}
}

func TestASignatureOfSeveralSignersIsAttachedIfAllAreRight(t *testing.T) {
	path, root := built(t, sample(t))
	p256 := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	one, two, three := p256(), p256(), p256()
	named := func(serial int64, key crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "Example Images"}, NotBefore: epoch, NotAfter: epoch.AddDate(10, 0, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	certs := []*x509.Certificate{named(1, one), named(2, two)}
	by := func(keys ...*ecdsa.PrivateKey) []byte {
		sd, err := pkcs7.NewSignedData([]byte(HashString(root)))
		if err != nil {
			t.Fatal(err)
		}
		sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
		for i, key := range keys {
			if err := sd.SignWithoutAttr(certs[i], key, pkcs7.SignerInfoConfig{}); err != nil {
				t.Fatal(err)
			}
		}
		sd.Detach()
		der, err := sd.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, c := range certs {
		if err := Attach(path, by(one, two), c); err != nil {
			t.Errorf("%s: %v", c.SerialNumber, err)
		}
	}
	if err := Attach(path, by(one, three), certs[0]); errkind.Of(err) != errkind.Untrusted {
		t.Errorf("the second signature is wrong: %v", err)
	}
	if err := Attach(path, by(one, two), named(3, three)); errkind.Of(err) != errkind.Untrusted || !strings.Contains(err.Error(), "not of one of its signers") {
		t.Errorf("the certificate is another one's: %v", err)
	}
}

// libraryPKCS7 is what a PKCS#7 library makes when left to itself.
func libraryPKCS7(t *testing.T, root [32]byte, cert *x509.Certificate, key crypto.Signer, attached bool) []byte {
	t.Helper()
	sd, err := pkcs7.NewSignedData([]byte(HashString(root)))
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := sd.SignWithoutAttr(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	if !attached {
		sd.Detach()
	}
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// attributes is a valid signature of the usual kind, with the time and all.
func attributes(t *testing.T, root [32]byte, cert *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	sd, err := pkcs7.NewSignedData([]byte(HashString(root)))
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := sd.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	sd.GetSignedData().SignerInfos[0].DigestEncryptionAlgorithm.Algorithm = pkcs7.OIDEncryptionAlgorithmRSA
	sd.Detach()
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOnlyTheKeyOfTheCertificateSigns(t *testing.T) {
	_, err := SignRootHash([32]byte{}, signer(t, rsaKey(t)), rsaKey(t))
	if errkind.Of(err) != errkind.Invalid {
		t.Errorf("got %v", err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SignRootHash([32]byte{}, signer(t, ed), ed); err == nil || !strings.Contains(err.Error(), "Ed25519 keys cannot sign an image") {
		t.Errorf("got %v", err)
	}
}

func TestAnECDSASignatureIsReproducible(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := signer(t, key)
	path, root := built(t, sample(t))
	one, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	two, err := SignRootHash(root, cert, key)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two signatures differ: %v", err)
	}
	if err := Attach(path, one, cert); err != nil {
		t.Error(err)
	}
	opensslVerifies(t, root, one, cert)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openssl(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// opensslVerifies checks as systemd does: only the given certificate counts.
func opensslVerifies(t *testing.T, root [32]byte, sig []byte, cert *x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "c.pem"), "CERTIFICATE", cert.Raw)
	for name, content := range map[string][]byte{"sig": sig, "hash": []byte(HashString(root))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, "smime", "-verify", "-binary", "-inform", "DER", "-in", dir+"/sig", "-content", dir+"/hash",
		"-nointern", "-noverify", "-certfile", dir+"/c.pem", "-out", "/dev/null")
}

func TestAnRSASignatureHasTheBytesOfOpenSSL(t *testing.T) {
	dir := t.TempDir()
	key := rsaKey(t)
	cert := signer(t, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "k.pem"), "PRIVATE KEY", der)
	writePEM(t, filepath.Join(dir, "c.pem"), "CERTIFICATE", cert.Raw)
	root := [32]byte{1, 2, 3}
	if err := os.WriteFile(filepath.Join(dir, "hash"), []byte(HashString(root)), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "smime", "-sign", "-noattr", "-binary", "-in", dir+"/hash", "-inkey", dir+"/k.pem",
		"-signer", dir+"/c.pem", "-outform", "der", "-out", dir+"/sig")
	ours, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, readFile(t, dir+"/sig")) {
		t.Errorf("ours:\n%x\nopenssl's:\n%x", ours, readFile(t, dir+"/sig"))
	}
	opensslVerifies(t, root, ours, cert)
}

// A signature is attached only if each check accepts the signed image, and otherwise the file
// stays as it is.
func TestASignatureThatIsNotAcceptedLeavesTheImage(t *testing.T) {
	path, root := built(t, sample(t))
	before := readFile(t, path)
	key := rsaKey(t)
	cert := signer(t, key)
	sig, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	accepts := func(m *Image, f *os.File) error {
		if got := m.Signature(); got == nil || !bytes.Equal(got.PKCS7, sig) {
			t.Errorf("the check sees the signature %v", got)
		}
		return nil
	}
	if err := Attach(path, sig, cert, accepts, func(*Image, *os.File) error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("the image changed")
	}
	if err := Attach(path, sig, cert, accepts); err != nil {
		t.Error(err)
	}
	none := filepath.Join(t.TempDir(), "none.raw")
	if err := Attach(none, sig, cert); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for name, content := range map[string][]byte{"text": []byte("no image"), "cut": before[:len(before)/2]} {
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Attach(other, sig, cert); err == nil || !strings.Contains(err.Error(), other) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Attach(t.TempDir(), sig, cert); errkind.Of(err) != errkind.Invalid {
		t.Errorf("a folder: %v", err)
	}
}
