package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

var (
	now       = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	notBefore = now.AddDate(-1, 0, 0)
	notAfter  = now.AddDate(1, 0, 0)
)

// identity is a key and a certificate that it signed for itself.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newIdentity(t testing.TB, key crypto.Signer, name string, serial int64) identity {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i identity) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

// policyOf trusts these.
func policyOf(ids ...identity) Policy {
	var p Policy
	for _, id := range ids {
		p.add(trustedCert{id.cert, "/etc/trident/trust.d/test.crt"})
	}
	return p
}

var root = [32]byte{1, 2, 3}

func (i identity) sign(t testing.TB) *ddi.Signature {
	t.Helper()
	der, err := ddi.SignRootHash(root, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return &ddi.Signature{RootHash: root, CertificateFingerprint: trustedCert{Certificate: i.cert}.fingerprint(), PKCS7: der}
}

// wantRefusal is nothing when kind is "".
func wantRefusal(t *testing.T, err error, kind errkind.Kind, text string) {
	t.Helper()
	if kind == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil || errkind.Of(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%s), want %q (%s)", err, errkind.Of(err), text, kind)
	}
}

func TestASignatureCountsWhenItsKeyDoes(t *testing.T) {
	vendor := newIdentity(t, rsaKey(t, 2048), "vendor", 7)
	curve := newIdentity(t, ecdsaKey(t, elliptic.P256()), "curve", 7)
	namesake := newIdentity(t, rsaKey(t, 2048), "vendor", 7)
	renewed := newIdentity(t, vendor.key, "vendor", 8)
	small := newIdentity(t, ecdsaKey(t, elliptic.P224()), "small", 1)
	altered := func(f func(*ddi.Signature)) *ddi.Signature {
		sig := vendor.sign(t)
		f(sig)
		return sig
	}
	for _, c := range []struct {
		name   string
		policy Policy
		sig    *ddi.Signature
		kind   errkind.Kind
		want   string
	}{
		{"RSA", policyOf(vendor), vendor.sign(t), "", ""},
		{"ECDSA", policyOf(vendor, curve), curve.sign(t), "", ""},
		{"one of two of the same name", policyOf(namesake, vendor), vendor.sign(t), "", ""},
		{"without a fingerprint", policyOf(vendor), altered(func(s *ddi.Signature) { s.CertificateFingerprint = "" }), "", ""},
		{"no signature", policyOf(vendor), nil, errkind.Untrusted, "the image is not signed"},
		{"no certificates", Policy{}, vendor.sign(t), errkind.Untrusted, "no certificate is trusted on this host"},
		{"another key", policyOf(curve), vendor.sign(t), errkind.Untrusted, `not trusted (serial number 7, issuer "CN=vendor")`},
		{"another key of the same name", policyOf(namesake), vendor.sign(t), errkind.Untrusted, "another certificate than the trusted certificate"},
		{"the same key in another certificate", policyOf(renewed), vendor.sign(t), errkind.Untrusted, "not trusted"},
		{"a weak curve", policyOf(small), small.sign(t), errkind.Untrusted, "ECDSA with 224 bits"},
		{"another fingerprint", policyOf(vendor), altered(func(s *ddi.Signature) { s.CertificateFingerprint = strings.Repeat("0", 64) }), errkind.Corrupt, "the fingerprint of another certificate"},
		{"no PKCS#7", policyOf(vendor), altered(func(s *ddi.Signature) { s.PKCS7 = []byte("x") }), errkind.Corrupt, "not a SignedData"},
		{"no bytes", policyOf(vendor), altered(func(s *ddi.Signature) { s.PKCS7 = nil }), errkind.Corrupt, "not a SignedData"},
		{"too many bytes", policyOf(vendor), altered(func(s *ddi.Signature) { s.PKCS7 = make([]byte, maxPKCS7+1) }), errkind.Corrupt, "larger than 65536"},
		{"something behind it", policyOf(vendor), altered(func(s *ddi.Signature) { s.PKCS7 = append(s.PKCS7, 0) }), errkind.Corrupt, "not a SignedData"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.policy.signerOf(root, c.sig, now)
			wantRefusal(t, err, c.kind, c.want)
		})
	}
	if _, err := policyOf(vendor).signerOf([32]byte{9}, vendor.sign(t), now); err == nil || errkind.Of(err) != errkind.Untrusted {
		t.Errorf("a signature of another root hash: %v", err)
	}
}

func TestAWeakRSAKeyDoesNotCount(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0") // else there is no such key to be had
	weak := newIdentity(t, rsaKey(t, 1024), "weak", 1)
	_, err := policyOf(weak).signerOf(root, weak.sign(t), now)
	wantRefusal(t, err, errkind.Untrusted, "RSA with 1024 bits")
}

func TestACertificateCountsWithinItsDates(t *testing.T) {
	id := newIdentity(t, ecdsaKey(t, elliptic.P256()), "vendor", 1)
	sig := id.sign(t)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{notBefore.Add(-time.Second), "is not valid before 2025-06-01T12:00:00Z"},
		{notBefore, ""},
		{notAfter, ""},
		{notAfter.Add(time.Second), "was valid until 2027-06-01T12:00:00Z"},
	} {
		_, err := policyOf(id).signerOf(root, sig, c.at)
		if c.want == "" {
			wantRefusal(t, err, "", "")
			continue
		}
		wantRefusal(t, err, errkind.Untrusted, c.want)
		if hint := errkind.Hint(err); !strings.Contains(hint, "clock of this host says "+c.at.Format(time.RFC3339)) {
			t.Errorf("hint %q", hint)
		}
	}
}

// A hint must not lead anybody to trust whoever made an image.
func TestARefusalNamesTheTrustedSigners(t *testing.T) {
	id := newIdentity(t, ecdsaKey(t, elliptic.P256()), "vendor", 1)
	other := newIdentity(t, ecdsaKey(t, elliptic.P256()), "other", 1)
	for _, p := range []Policy{{}, policyOf(other)} {
		_, err := p.signerOf(root, id.sign(t), now)
		hint := errkind.Hint(err)
		if !strings.Contains(hint, "/etc/trident/trust.d") || strings.Contains(hint, "Put ") || strings.Contains(strings.ToLower(hint), "certificate of the signer") {
			t.Errorf("%v: hint %q", err, hint)
		}
	}
}

// What openssl writes is the form that systemd's documentation tells people to
// make.
func TestASignatureByOpensslCounts(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	for _, key := range []crypto.Signer{rsaKey(t, 2048), ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P384())} {
		id, dir := newIdentity(t, key, "vendor", 1), t.TempDir()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string]string{
			"cert.pem": id.pem(), "hash": ddi.HashString(root),
			"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		})
		for _, opts := range [][]string{{}, {"-nocerts"}, {"-md", "sha512"}} {
			cmd := exec.Command("openssl", append([]string{"smime", "-sign", "-noattr", "-binary", "-outform", "der",
				"-in", "hash", "-inkey", "key.pem", "-signer", "cert.pem", "-out", "sig"}, opts...)...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			sig, err := os.ReadFile(filepath.Join(dir, "sig"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := policyOf(id).signerOf(root, &ddi.Signature{PKCS7: sig}, now); err != nil {
				t.Errorf("%T, %v: %v", key, opts, err)
			}
		}
	}
}

// openssl, and so systemd in user space, wants the certificates of all signers, and the kernel
// that of one.
func TestASignatureOfSeveralSignersByOpensslCounts(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	dir := t.TempDir()
	openssl := func(args ...string) (string, error) {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	write(t, dir, map[string]string{"hash": ddi.HashString(root)})
	sign := []string{"smime", "-sign", "-noattr", "-binary", "-outform", "der", "-in", "hash", "-out", "sig"}
	ids := map[string]identity{
		"a": newIdentity(t, rsaKey(t, 2048), "a", 1), "b": newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 2), "c": newIdentity(t, rsaKey(t, 2048), "c", 3),
	}
	for name, id := range ids {
		der, err := x509.MarshalPKCS8PrivateKey(id.key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string]string{name + ".pem": id.pem(), name + ".key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
		if name != "c" {
			sign = append(sign, "-signer", name+".pem", "-inkey", name+".key")
		}
	}
	if out, err := openssl(sign...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sig, err := os.ReadFile(filepath.Join(dir, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	for trusted, want := range map[string]bool{"a": true, "b": true, "ab": true, "bc": true, "c": false} {
		var p Policy
		certs := ""
		for _, name := range strings.Split(trusted, "") {
			p.add(trustedCert{Certificate: ids[name].cert})
			certs += ids[name].pem()
		}
		_, err := p.signerOf(root, &ddi.Signature{PKCS7: sig}, now)
		if (err == nil) != want {
			t.Errorf("%s is trusted: %v", trusted, err)
		}
		write(t, dir, map[string]string{"certs.pem": certs})
		out, err := openssl("smime", "-verify", "-noverify", "-nointern", "-binary", "-inform", "der", "-in", "sig", "-content", "hash", "-certfile", "certs.pem")
		if (err == nil) != (trusted == "ab") {
			t.Errorf("openssl with %s: %v: %s", trusted, err, out)
		}
	}
}

func TestEveryFlippedBitOfASignatureIsRefused(t *testing.T) {
	id := newIdentity(t, rsaKey(t, 2048), "vendor", 1)
	p, sig := policyOf(id), id.sign(t)
	for i := range len(sig.PKCS7) * 8 {
		bad := *sig
		bad.PKCS7 = bytes.Clone(sig.PKCS7)
		bad.PKCS7[i/8] ^= 1 << (i % 8)
		if _, err := p.signerOf(root, &bad, now); err == nil || (errkind.Of(err) != errkind.Untrusted && errkind.Of(err) != errkind.Corrupt) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
}

// newImage builds a small image and signs it.
func newImage(t *testing.T, id *identity) string {
	t.Helper()
	dir := t.TempDir()
	release := filepath.Join(dir, "tree/usr/lib/extension-release.d/extension-release.x")
	if err := os.MkdirAll(filepath.Dir(release), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(release, []byte("ID=_any\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "x.raw")
	hash, err := ddi.Build(context.Background(), image, ddi.BuildOptions{Tree: filepath.Join(dir, "tree"), Arch: ddi.AMD64, Epoch: now})
	if err != nil {
		t.Fatal(err)
	}
	if id == nil {
		return image
	}
	der, err := ddi.SignRootHash(hash, id.cert, id.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := ddi.Attach(image, der, id.cert); err != nil {
		t.Fatal(err)
	}
	return image
}

func open(t *testing.T, data []byte) *ddi.Image {
	t.Helper()
	img, err := ddi.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestAnImageIsVerifiedWhenItsSignatureAndEveryByteAreGood(t *testing.T) {
	id := newIdentity(t, ecdsaKey(t, elliptic.P256()), "vendor", 1)
	data, err := os.ReadFile(newImage(t, &id))
	if err != nil {
		t.Fatal(err)
	}
	img := open(t, data)
	var done, total int64
	v, err := policyOf(id).Verify(t.Context(), img, now, func(d, n int64) { done, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := v.Value(); !ok || got != img || v.Signer() != "CN=vendor" {
		t.Errorf("verified %v, %v by %q", got, ok, v.Signer())
	}
	if done != total || total == 0 {
		t.Errorf("progress %d of %d", done, total)
	}

	flipped := bytes.Clone(data)
	flipped[img.Table().Partitions[0].Offset()+100] ^= 1
	v, err = policyOf(id).Verify(t.Context(), open(t, flipped), now, nil)
	wantRefusal(t, err, errkind.Corrupt, "data block 0")
	if got, ok := v.Value(); ok || got != nil {
		t.Errorf("a damaged image came with the value %v, %v", got, ok)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := policyOf(id).Verify(ctx, img, now, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTheSignatureIsCheckedBeforeTheImageIsRead(t *testing.T) {
	id := newIdentity(t, ecdsaKey(t, elliptic.P256()), "vendor", 1)
	data, err := os.ReadFile(newImage(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	read := false
	_, err = policyOf(id).Verify(t.Context(), open(t, data), now, func(int64, int64) { read = true })
	wantRefusal(t, err, errkind.Untrusted, "check signature of image: the image is not signed")
	if read {
		t.Error("the tree of an unsigned image was read")
	}
}

func TestAnImageIsVerifiedAgainOnlyAfterItWasVerified(t *testing.T) {
	id, other := newIdentity(t, ecdsaKey(t, elliptic.P256()), "vendor", 1), newIdentity(t, ecdsaKey(t, elliptic.P256()), "other", 2)
	data, err := os.ReadFile(newImage(t, &id))
	if err != nil {
		t.Fatal(err)
	}
	before, err := policyOf(id).Verify(t.Context(), open(t, data), now, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, data)
	v, dateFault, err := policyOf(id).VerifyAgain(before, again, now)
	if got, ok := v.Value(); err != nil || dateFault != nil || !ok || got != again || v.Signer() != "CN=vendor" {
		t.Errorf("%v, %v by %q, %v, %v", got, ok, v.Signer(), dateFault, err)
	}
	if _, dateFault, err = policyOf(id).VerifyAgain(before, again, notAfter.Add(time.Hour)); err != nil || dateFault == nil {
		t.Errorf("after its date: %v, %v", dateFault, err)
	}
	v, _, err = policyOf(id).VerifyAgain(Verified[*ddi.Image]{}, again, now)
	wantRefusal(t, err, errkind.Untrusted, "is not the one that was verified before")
	if _, ok := v.Value(); ok {
		t.Error("an image that nobody has verified came with a value")
	}
	v, _, err = policyOf(other).VerifyAgain(before, again, now)
	wantRefusal(t, err, errkind.Untrusted, "")
	if _, ok := v.Value(); ok {
		t.Error("an image whose key is no longer trusted came with a value")
	}
}

func TestTheZeroVerifiedProvesNothing(t *testing.T) {
	if v, ok := (Verified[*ddi.Image]{}).Value(); ok || v != nil {
		t.Errorf("got %v, %v", v, ok)
	}
}

// A signature that missed the root hash by a common mistake says by which.
func TestASignatureOfTheWrongBytesSaysOfWhich(t *testing.T) {
	for _, key := range []crypto.Signer{rsaKey(t, 2048), ecdsaKey(t, elliptic.P384())} {
		id := newIdentity(t, key, "vendor", 1)
		letters := [32]byte{0xab, 0xcd}
		hash := ddi.HashString(letters)
		for content, want := range map[string]string{
			hash + "\n": "with a line break at its end", hash + "\r\n": "with a line break at its end", strings.ToUpper(hash): "in upper case",
			string(letters[:]): "in binary", "": "an empty file", "something else": "it is not a signature of this root hash",
		} {
			sig := id.sign(t)
			sum := sha256.Sum256([]byte(content))
			raw, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			msg, err := parsePKCS7(sig.PKCS7)
			if err != nil {
				t.Fatal(err)
			}
			msg.signers[0].signature = raw
			err = msg.signers[0].verify(id.cert, []byte(hash))
			wantRefusal(t, err, errkind.Untrusted, want)
			if (errkind.Hint(err) != "") != (content != "something else") {
				t.Errorf("%q: hint %q", content, errkind.Hint(err))
			}
		}
	}
}
