package ddi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/smallstep/pkcs7"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trident-project/trident/internal/errkind"
)

// SignRootHash returns a signature of a root hash in the form that systemd and the
// kernel accept: PKCS#7, detached, without attributes, SHA-256, over the hash in
// lower-case hex, with the certificate. With an RSA key the bytes are those of
//
//	openssl smime -sign -noattr -binary -outform der
//
// and always the same. The encoder is our own because the bytes of a library would
// differ, and because libraries use algorithm names that the kernel refuses: for RSA
// it must be plain rsaEncryption.
func SignRootHash(root [32]byte, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, errkind.Errorf(errkind.Invalid, "sign root hash: the key is not the one of the certificate %q", cert.Subject)
	}
	alg, err := signatureAlgorithm(cert)
	if err != nil {
		return nil, fmt.Errorf("sign root hash: %w", err)
	}
	random := io.Reader(rand.Reader)
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		random = nil // deterministic, RFC 6979
	}
	digest := sha256.Sum256([]byte(HashString(root)))
	sig, err := key.Sign(random, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign root hash: %w", err)
	}
	der, err := encodePKCS7(cert, alg, sig)
	if err != nil {
		return nil, fmt.Errorf("sign root hash: %w", err)
	}
	return der, nil
}

// algorithm is an AlgorithmIdentifier.
type algorithm struct {
	id   asn1.ObjectIdentifier
	null bool // the parameters are NULL, not absent
}

func signatureAlgorithm(cert *x509.Certificate) (algorithm, error) {
	switch cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return algorithm{pkcs7.OIDEncryptionAlgorithmRSA, true}, nil
	case *ecdsa.PublicKey:
		return algorithm{pkcs7.OIDDigestAlgorithmECDSASHA256, false}, nil
	}
	return algorithm{}, errkind.Errorf(errkind.Invalid, "%s keys cannot sign an image: PKCS#7 without attributes is for RSA and ECDSA", cert.PublicKeyAlgorithm)
}

// isECDSA reports whether cert has an ECDSA key and name is ECDSA with SHA-256, SHA-384
// or SHA-512.
func isECDSA(cert *x509.Certificate, name asn1.ObjectIdentifier) bool {
	_, ok := cert.PublicKey.(*ecdsa.PublicKey)
	return ok && (name.Equal(pkcs7.OIDDigestAlgorithmECDSASHA256) || name.Equal(pkcs7.OIDDigestAlgorithmECDSASHA384) || name.Equal(pkcs7.OIDDigestAlgorithmECDSASHA512))
}

func (a algorithm) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.id)
		if a.null {
			b.AddASN1NULL()
		}
	})
}

// encodePKCS7 writes a ContentInfo with SignedData (RFC 2315, sections 7 and 9).
func encodePKCS7(cert *x509.Certificate, alg algorithm, sig []byte) ([]byte, error) {
	digest := algorithm{pkcs7.OIDDigestAlgorithmSHA256, true}
	explicit0 := cbasn1.Tag(0).Constructed().ContextSpecific()
	signer := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(cert.RawIssuer)
			b.AddASN1BigInt(cert.SerialNumber)
		})
		digest.add(b)
		alg.add(b)
		b.AddASN1OctetString(sig)
	}
	signedData := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SET, digest.add)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(pkcs7.OIDData) })
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddBytes(cert.Raw) })
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, signer) })
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(pkcs7.OIDSignedData)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, signedData) })
	})
	return b.Bytes()
}

// checkSignature fails unless der has a signature over root by the key of cert, and all its
// signatures are right and in the form that the kernel accepts. It checks those of other signers
// with the certificates in der. It ignores dates.
func checkSignature(root [32]byte, der []byte, cert *x509.Certificate) error {
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return errkind.Errorf(errkind.Invalid, "the signature is not a PKCS#7 in DER: %w", err)
	}
	if len(p7.Content) > 0 {
		return errkind.Errorf(errkind.Invalid, "the signature is not detached: it has %d bytes of content", len(p7.Content))
	}
	certs := []*x509.Certificate{cert}
	if len(p7.Signers) > 1 {
		certs = append(certs, p7.Certificates...)
	}
	if len(p7.Signers) == 0 || len(p7.Certificates) > len(p7.Signers) {
		return errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "the signature has %d signers, and %d certificates", len(p7.Signers), len(p7.Certificates)),
			"sign with: openssl smime -sign -noattr -binary -outform der")
	}
	isBySigner := false
	for i := range p7.Signers {
		s := &p7.Signers[i]
		by := certOf(certs, s.IssuerAndSerialNumber.IssuerName.FullBytes, s.IssuerAndSerialNumber.SerialNumber)
		if by == nil && len(p7.Signers) == 1 {
			by = cert // its check says what is wrong
		}
		if by == nil {
			return errkind.Errorf(errkind.Invalid, "the signature has a signer with serial number %x, and not its certificate", s.IssuerAndSerialNumber.SerialNumber)
		}
		isBySigner = isBySigner || by == cert
		if err := checkForm(by, s.DigestEncryptionAlgorithm.Algorithm, len(s.AuthenticatedAttributes)); err != nil {
			return err
		}
	}
	p7.Content = []byte(HashString(root))
	p7.Certificates = certs
	err = p7.Verify()
	if err == nil && !isBySigner {
		err = fmt.Errorf("the certificate is not of one of its signers")
	}
	if err != nil {
		return errkind.Errorf(errkind.Untrusted, "the signature is not one of root hash %s by %q: %w", HashString(root), cert.Subject, err)
	}
	return nil
}

// checkForm fails if a signer uses an algorithm that the kernel refuses, or has attributes.
func checkForm(cert *x509.Certificate, got asn1.ObjectIdentifier, attributes int) error {
	alg, err := signatureAlgorithm(cert)
	if err != nil {
		return err
	}
	if !got.Equal(alg.id) && !isECDSA(cert, got) {
		return errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "the signature is of algorithm %s, the kernel accepts %s", got, alg.id),
			"sign with: openssl smime -sign -noattr -binary -outform der")
	}
	if attributes > 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "the signature has attributes"),
			"sign with: openssl smime -sign -noattr -binary -outform der")
	}
	return nil
}

// certOf returns the certificate with an issuer, in DER, and a serial number; nil if there is none.
func certOf(certs []*x509.Certificate, issuer []byte, serial *big.Int) *x509.Certificate {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawIssuer, issuer) && c.SerialNumber.Cmp(serial) == 0
	})
	if i < 0 {
		return nil
	}
	return certs[i]
}
