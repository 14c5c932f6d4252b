package trust

import (
	"bytes"
	"crypto/elliptic"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

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
