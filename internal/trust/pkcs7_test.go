package trust

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// grown returns der once for each constructed value in it, with a NULL added at
// the end of that value.
func grown(t *testing.T, der []byte) (all [][]byte) {
	t.Helper()
	null := []byte{5, 0}
	rest := cryptobyte.String(der)
	for !rest.Empty() {
		before := der[:len(der)-len(rest)]
		var body cryptobyte.String
		var tag tags.Tag
		if !rest.ReadAnyASN1(&body, &tag) {
			t.Fatalf("%x is not DER", der)
		}
		if tag&0x20 == 0 {
			continue
		}
		for _, inner := range append(grown(t, body), slices.Concat(body, null)) {
			var b cryptobyte.Builder
			b.AddBytes(before)
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(inner) })
			b.AddBytes(rest)
			all = append(all, b.BytesOrPanic())
		}
	}
	return all
}

func TestNothingCanBeAddedToASignature(t *testing.T) {
	id := newIdentity(t, rsaKey(t, 2048), "vendor", 1)
	p, good := policyOf(id), id.sign(t)
	variants := grown(t, good.PKCS7)
	if len(variants) < 20 {
		t.Fatalf("only %d variants", len(variants))
	}
	for _, der := range variants {
		if _, err := p.signerOf(root, &ddi.Signature{PKCS7: der}, now); err == nil {
			t.Errorf("accepted %x", der)
		}
	}
}

func TestOnlyThePlainFormOfASignatureIsRead(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 2)
	plain := func(s *pkcs7.SignedData, ids ...identity) error {
		for _, id := range ids {
			if err := s.SignWithoutAttr(id.cert, id.key, pkcs7.SignerInfoConfig{}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name string
		make func(*pkcs7.SignedData) error
		kind errkind.Kind
		want string
	}{
		{"plain", func(s *pkcs7.SignedData) error { defer s.Detach(); return plain(s, a) }, "", ""},
		{"with its content", func(s *pkcs7.SignedData) error { return plain(s, a) }, errkind.Corrupt, "not a detached signature"},
		{"by two", func(s *pkcs7.SignedData) error { defer s.Detach(); return plain(s, a, b) }, "", ""},
		{"by one twice", func(s *pkcs7.SignedData) error { defer s.Detach(); return plain(s, a, a) }, errkind.Corrupt, "two signers with the same issuer"},
		{"by nine", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			for n := range int64(maxSigners + 1) {
				if err := plain(s, newIdentity(t, a.key, "many", 10+n)); err != nil {
					return err
				}
			}
			return nil
		}, errkind.Corrupt, "more than 8 signers"},
		{"by two, and a third certificate", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			s.AddCertificate(newIdentity(t, a.key, "third", 3).cert)
			return plain(s, a, b)
		}, errkind.Corrupt, "not one of its signers"},
		{"by two, one with attributes", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			return errors.Join(plain(s, a), s.AddSigner(b.cert, b.key, pkcs7.SignerInfoConfig{}))
		}, errkind.Corrupt, "signed attributes"},
		{"with attributes", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			return s.AddSigner(a.cert, a.key, pkcs7.SignerInfoConfig{})
		}, errkind.Corrupt, "signed attributes"},
		{"with a second certificate", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			s.AddCertificate(b.cert)
			return plain(s, a)
		}, errkind.Corrupt, "more certificates than signers"},
		{"with SHA-1", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA1)
			return plain(s, a)
		}, errkind.Untrusted, "is not SHA-256 or better"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := pkcs7.NewSignedData([]byte(ddi.HashString(root)))
			if err != nil {
				t.Fatal(err)
			}
			s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
			if err := c.make(s); err != nil {
				t.Fatal(err)
			}
			der, err := s.Finish()
			if err != nil {
				t.Fatal(err)
			}
			_, err = policyOf(a, b).signerOf(root, &ddi.Signature{PKCS7: der}, now)
			wantRefusal(t, err, c.kind, c.want)
		})
	}
}

// signedByAll makes one message of the signatures of all of ids, as the library encodes it.
func signedByAll(t testing.TB, ids ...identity) []byte {
	t.Helper()
	s, err := pkcs7.NewSignedData([]byte(ddi.HashString(root)))
	if err != nil {
		t.Fatal(err)
	}
	s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	for _, id := range ids {
		if err := s.SignWithoutAttr(id.cert, id.key, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
	}
	s.Detach()
	der, err := s.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOfSeveralSignersOneHasToBeTrusted(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 2)
	c := newIdentity(t, ecdsaKey(t, elliptic.P256()), "c", 3)
	both := signedByAll(t, a, b)
	bad := func(id identity) []byte { // the signature of id is wrong
		other := identity{id.cert, ecdsaKey(t, elliptic.P256())}
		if id.cert == a.cert {
			return signedByAll(t, other, b)
		}
		return signedByAll(t, a, other)
	}
	for _, test := range []struct {
		name    string
		trusted []identity
		der     []byte
		signer  string
		kind    errkind.Kind
		want    string
	}{
		{"both", []identity{a, b}, both, "CN=", "", ""}, // in the order of their DER
		{"the first", []identity{a}, both, "CN=a", "", ""},
		{"the second", []identity{b, c}, both, "CN=b", "", ""},
		{"none", []identity{c}, both, "", errkind.Untrusted, "not trusted"},
		{"the first, and the second is wrong", []identity{a}, bad(b), "", errkind.Untrusted, "one is wrong"},
		{"the second, and the first is wrong", []identity{b}, bad(a), "", errkind.Untrusted, "one is wrong"},
		{"both, and the second is wrong", []identity{a, b}, bad(b), "", errkind.Untrusted, "not a signature of this root hash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, err := policyOf(test.trusted...).CheckSigner(root, &ddi.Signature{RootHash: root, PKCS7: test.der}, now)
			wantRefusal(t, err, test.kind, test.want)
			if !strings.HasPrefix(v.Signer(), test.signer) || (v.Signer() == "") != (test.signer == "") {
				t.Errorf("signer %q, want %q", v.Signer(), test.signer)
			}
		})
	}
}

// A key is rotated: the certificate of the old key has expired, that of the new one has not.
func TestOfSeveralTrustedSignersOneHasToBeValidNow(t *testing.T) {
	a := newIdentity(t, ecdsaKey(t, elliptic.P256()), "a", 1)
	b := newIdentity(t, ecdsaKey(t, elliptic.P256()), "b", 2)
	expired := *a.cert
	expired.NotAfter = now.AddDate(0, 0, -1)
	p := policyOf(identity{&expired, a.key}, b)
	sig := &ddi.Signature{RootHash: root, CertificateFingerprint: trustedCert{Certificate: a.cert}.fingerprint(), PKCS7: signedByAll(t, a, b)}
	v, err := p.CheckSigner(root, sig, now)
	if err != nil || v.Signer() != "CN=b" {
		t.Errorf("signer %q: %v", v.Signer(), err)
	}
	if _, err := policyOf(identity{&expired, a.key}).CheckSigner(root, sig, now); errkind.Of(err) != errkind.Untrusted || !strings.Contains(err.Error(), "was valid until") {
		t.Errorf("the expired alone: %v", err)
	}
	sig.CertificateFingerprint = strings.Repeat("ab", 32)
	if _, err := p.CheckSigner(root, sig, now); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("the fingerprint of a third certificate: %v", err)
	}
}

func FuzzVerifySignature(f *testing.F) {
	id := newIdentity(f, ecdsaKey(f, elliptic.P256()), "vendor", 1)
	p, good := policyOf(id), id.sign(f)
	f.Add(good.PKCS7)
	f.Add(rsaSeed(f))
	f.Add(signedByAll(f, id, newIdentity(f, ecdsaKey(f, elliptic.P256()), "second", 2)))
	f.Add([]byte{})
	f.Add([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80"))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 1000))
	f.Fuzz(func(t *testing.T, der []byte) {
		sig := &ddi.Signature{RootHash: root, PKCS7: der}
		_, err := p.signerOf(root, sig, now)
		switch {
		case err == nil && !isBy(der, id):
			t.Errorf("accepted %x", der)
		case err != nil && errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Untrusted:
			t.Errorf("kind %s: %v", errkind.Of(err), err)
		}
	})
}

// isBy reports whether der has a signature of the root hash by id.
func isBy(der []byte, id identity) bool {
	msg, err := parsePKCS7(der)
	return err == nil && slices.ContainsFunc(msg.signers, func(s signer) bool {
		return s.isSignedBy(id.cert) && s.verifyContent(id.cert, []byte(ddi.HashString(root))) == nil
	})
}

func rsaSeed(f *testing.F) []byte {
	return newIdentity(f, rsaKey(f, 2048), "other", 1).sign(f).PKCS7
}
