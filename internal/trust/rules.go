package trust

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// The smallest keys that Verify accepts, in bits.
const (
	minRSA   = 2048
	minECDSA = 256
)

// PolicyOf returns a policy that trusts certs. A signer uses it to check whether a
// host that trusts them would accept an image.
func PolicyOf(certs ...*x509.Certificate) Policy {
	var p Policy
	for _, cert := range certs {
		p.add(trustedCert{Certificate: cert})
	}
	return p
}

// CheckSigner fails if a signature by the key of cert could not be valid at the
// time now. It applies the rules for keys and dates of Verify. Errors are of kind
// Untrusted.
func CheckSigner(cert *x509.Certificate, now time.Time) error {
	if err := checkKey(cert); err != nil {
		return err
	}
	return trustedCert{Certificate: cert}.validAt(now)
}

func checkKey(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return weakKeyError(cert, fmt.Sprintf("RSA with %d bits, fewer than %d", bits, minRSA))
		}
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < minECDSA {
			return weakKeyError(cert, fmt.Sprintf("ECDSA with %d bits, fewer than %d", bits, minECDSA))
		}
	default:
		return weakKeyError(cert, algorithmOf(cert)+", neither RSA nor ECDSA")
	}
	return nil
}

// algorithmOf returns the name of the algorithm of the key in cert, or its object
// identifier if Go has no name for it.
func algorithmOf(cert *x509.Certificate) string {
	if cert.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		return cert.PublicKeyAlgorithm.String()
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &key); err != nil {
		return "of an unknown algorithm"
	}
	id := key.Algorithm.Algorithm.String()
	if name, ok := map[string]string{"1.2.840.113549.1.1.10": "RSA-PSS", "1.3.101.113": "Ed448", "1.3.101.110": "X25519", "1.3.101.111": "X448"}[id]; ok {
		return name
	}
	return "of the algorithm " + id
}

func weakKeyError(cert *x509.Certificate, key string) error {
	return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "the key of the certificate %q is %s", cert.Subject, key),
		"Sign with another key: RSA from %d bits, or ECDSA from %d.", minRSA, minECDSA)
}
