package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trident-project/trident/internal/errkind"
)

// A signer is a SignerInfo of a message.
type signer struct {
	issuer    []byte // DER
	serial    *big.Int
	cert      []byte // DER of the certificate in the message, or nil
	digest    string // object identifiers
	algorithm string
	signature []byte
}

func (s *signer) parse(in cryptobyte.String) error {
	var name, issuer cryptobyte.String
	s.serial = new(big.Int)
	if !readVersion1(&in) || !in.ReadASN1(&name, tags.SEQUENCE) ||
		!name.ReadASN1Element(&issuer, tags.SEQUENCE) || !name.ReadASN1Integer(s.serial) || !name.Empty() {
		return errors.New("its signer is not named by issuer and serial number")
	}
	s.issuer = issuer
	s.digest = readAlgorithm(&in)
	if in.PeekASN1Tag(tag0) {
		return errors.New("it has signed attributes")
	}
	s.algorithm = readAlgorithm(&in)
	var signature cryptobyte.String
	if !in.ReadASN1(&signature, tags.OCTET_STRING) {
		return errors.New("the signature in it is damaged")
	}
	s.signature = signature
	if !in.Empty() {
		return errors.New("data follows the signature")
	}
	return nil
}

func (s signer) isSignedBy(cert *x509.Certificate) bool {
	return bytes.Equal(s.issuer, cert.RawIssuer) && s.serial.Cmp(cert.SerialNumber) == 0
}

func (s signer) isNamedLike(other signer) bool {
	return bytes.Equal(s.issuer, other.issuer) && s.serial.Cmp(other.serial) == 0
}

// issuerName returns the name of the issuer, for error messages.
func (s signer) issuerName() string {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(s.issuer, &seq); err != nil || len(rest) > 0 {
		return "unreadable"
	}
	var name pkix.Name
	name.FillFromRDNSequence(&seq)
	return fmt.Sprintf("%.200q", name.String())
}

// verify checks the signature over content with the key of cert, a trusted
// certificate. A certificate in the message is not used, but must equal cert.
func (s signer) verify(cert *x509.Certificate, content []byte) error {
	if s.cert != nil && !bytes.Equal(s.cert, cert.Raw) {
		return errkind.Errorf(errkind.Untrusted, "it contains another certificate than the trusted certificate %q", cert.Subject)
	}
	if err := checkKey(cert); err != nil {
		return err
	}
	err := s.verifyContent(cert, content)
	if err == nil || errkind.Of(err) == errkind.Untrusted {
		return err
	}
	err = errkind.Errorf(errkind.Untrusted, "it is not a signature of this root hash by %q: %w", cert.Subject, err)
	if what := s.signedInstead(cert, content); what != "" {
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "it is a signature of %s: %w", what, err),
			"Sign the 64 hexadecimal digits and nothing else: trident sysext sign FILE --print-root-hash | tr -d '\\n' > hash")
	}
	return err
}

// verifyContent checks the signature over content. An error of kind Untrusted is
// about the form of the message, any other error about the signature.
func (s signer) verifyContent(cert *x509.Certificate, content []byte) error {
	hash, digest, err := s.hash(content)
	if err != nil {
		return err
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if s.algorithm != oidRSA {
			return errkind.Errorf(errkind.Untrusted, "its signature algorithm %s is not rsaEncryption, which the kernel requires", s.algorithm)
		}
		return rsa.VerifyPKCS1v15(key, hash, digest, s.signature)
	case *ecdsa.PublicKey:
		if want := ecdsaAlgorithm(s.digest); s.algorithm != want {
			return errkind.Errorf(errkind.Untrusted, "its signature algorithm %s is not that of its digest, %s", s.algorithm, want)
		}
		if !ecdsa.VerifyASN1(key, digest, s.signature) {
			return errors.New("ECDSA verification error")
		}
	}
	return nil
}

// signedInstead returns what the signature signs instead of content, if the signer made a
// common mistake with the root hash; else "".
func (s signer) signedInstead(cert *x509.Certificate, content []byte) string {
	binary, err := hex.DecodeString(string(content))
	if err != nil {
		return ""
	}
	for _, c := range []struct {
		content []byte
		what    string
	}{
		{append(slices.Clone(content), '\n'), "the root hash with a line break at its end"},
		{append(slices.Clone(content), '\r', '\n'), "the root hash with a line break at its end"},
		{bytes.ToUpper(content), "the root hash in upper case"},
		{binary, "the root hash in binary"},
		{nil, "an empty file"},
	} {
		if s.verifyContent(cert, c.content) == nil {
			return c.what
		}
	}
	return ""
}

func (s signer) hash(content []byte) (crypto.Hash, []byte, error) {
	switch s.digest {
	case oidSHA256:
		sum := sha256.Sum256(content)
		return crypto.SHA256, sum[:], nil
	case oidSHA384:
		sum := sha512.Sum384(content)
		return crypto.SHA384, sum[:], nil
	case oidSHA512:
		sum := sha512.Sum512(content)
		return crypto.SHA512, sum[:], nil
	}
	return 0, nil, errkind.WithHint(errkind.Errorf(errkind.Untrusted, "its digest algorithm %q is not SHA-256 or better", s.digest),
		"Sign with: %s", signCommand)
}

func ecdsaAlgorithm(digest string) string {
	return map[string]string{oidSHA256: oidECDSASHA256, oidSHA384: oidECDSASHA384, oidSHA512: oidECDSASHA512}[digest]
}
