package trust

import (
	"bytes"
	"crypto/elliptic"
	"slices"
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
		{"by two", func(s *pkcs7.SignedData) error { defer s.Detach(); return plain(s, a, b) }, errkind.Corrupt, "more than one signer"},
		{"with attributes", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			return s.AddSigner(a.cert, a.key, pkcs7.SignerInfoConfig{})
		}, errkind.Corrupt, "signed attributes"},
		{"with a second certificate", func(s *pkcs7.SignedData) error {
			defer s.Detach()
			s.AddCertificate(b.cert)
			return plain(s, a)
		}, errkind.Corrupt, "more than one certificate"},
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

func FuzzVerifySignature(f *testing.F) {
	id := newIdentity(f, ecdsaKey(f, elliptic.P256()), "vendor", 1)
	p, good := policyOf(id), id.sign(f)
	signed, err := parsePKCS7(good.PKCS7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.PKCS7)
	f.Add(rsaSeed(f))
	f.Add([]byte{})
	f.Add([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80"))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 1000))
	f.Fuzz(func(t *testing.T, der []byte) {
		sig := &ddi.Signature{RootHash: root, PKCS7: der}
		_, err := p.signerOf(root, sig, now)
		switch {
		case err == nil && !bytes.Contains(der, signed.signature):
			t.Errorf("accepted %x", der)
		case err != nil && errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Untrusted:
			t.Errorf("kind %s: %v", errkind.Of(err), err)
		}
	})
}

func rsaSeed(f *testing.F) []byte {
	return newIdentity(f, rsaKey(f, 2048), "other", 1).sign(f).PKCS7
}
