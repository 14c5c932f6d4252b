package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// signCommand is a command that makes a valid signature, for hints.
const signCommand = "openssl smime -sign -noattr -binary -md sha256 -in hash -outform der -signer CERT -inkey KEY -out hash.p7s"

const (
	// maxPKCS7 bounds a message, in bytes. maxSigners signers with their certificates are smaller.
	maxPKCS7 = 64 << 10
	// maxSigners bounds the signers of a message, and its certificates.
	maxSigners = 8
)

// A message is a PKCS#7 SignedData in the form that signs a root hash (RFC 2315,
// section 9): detached, without attributes, and with no certificates but those of its signers.
type message struct {
	signers []signer
}

// The object identifiers of PKCS #1, #7, X9.62 and NIST that can occur.
const (
	oidData        = "1.2.840.113549.1.7.1"
	oidSignedData  = "1.2.840.113549.1.7.2"
	oidRSA         = "1.2.840.113549.1.1.1"
	oidSHA256      = "2.16.840.1.101.3.4.2.1"
	oidSHA384      = "2.16.840.1.101.3.4.2.2"
	oidSHA512      = "2.16.840.1.101.3.4.2.3"
	oidECDSASHA256 = "1.2.840.10045.4.3.2"
	oidECDSASHA384 = "1.2.840.10045.4.3.3"
	oidECDSASHA512 = "1.2.840.10045.4.3.4"
)

// The tags of context-specific, constructed values.
const (
	tag0 = tags.Tag(0xa0)
	tag1 = tags.Tag(0xa1)
)

// parsePKCS7 reads a message in DER. It fails if bytes follow the message.
func parsePKCS7(der []byte) (message, error) {
	if len(der) > maxPKCS7 {
		return message{}, fmt.Errorf("its size, %d bytes, is larger than %d", len(der), maxPKCS7)
	}
	in := cryptobyte.String(der)
	var info, outer, signed cryptobyte.String
	if !in.ReadASN1(&info, tags.SEQUENCE) || !in.Empty() ||
		readOID(&info) != oidSignedData || !info.ReadASN1(&outer, tag0) || !info.Empty() ||
		!outer.ReadASN1(&signed, tags.SEQUENCE) || !outer.Empty() {
		return message{}, errors.New("it is not a SignedData in DER")
	}
	return parseSignedData(signed)
}

func parseSignedData(in cryptobyte.String) (m message, err error) {
	var digests, content, certs, signers cryptobyte.String
	var hasCerts bool
	if !readVersion1(&in) || !in.ReadASN1(&digests, tags.SET) || !in.ReadASN1(&content, tags.SEQUENCE) ||
		!in.ReadOptionalASN1(&certs, &hasCerts, tag0) {
		return m, errors.New("the SignedData is damaged")
	}
	if readOID(&content) != oidData {
		return m, errors.New("its content is not plain data")
	}
	if !content.Empty() {
		return m, errors.New("it is not a detached signature: it contains content")
	}
	if in.PeekASN1Tag(tag1) {
		return m, errors.New("it contains revocation lists")
	}
	if !in.ReadASN1(&signers, tags.SET) || !in.Empty() {
		return m, errors.New("the list of signers is damaged")
	}
	if err := m.parseSigners(signers); err != nil {
		return m, err
	}
	if err := m.checkDigests(digests); err != nil {
		return m, err
	}
	if hasCerts {
		return m, m.parseCerts(certs)
	}
	return m, nil
}

func (m *message) parseSigners(in cryptobyte.String) error {
	for len(m.signers) == 0 || !in.Empty() {
		if len(m.signers) == maxSigners {
			return fmt.Errorf("it has more than %d signers", maxSigners)
		}
		var one cryptobyte.String
		if !in.ReadASN1(&one, tags.SEQUENCE) {
			return errors.New("the list of signers is damaged")
		}
		var s signer
		if err := s.parse(one); err != nil {
			return err
		}
		if slices.ContainsFunc(m.signers, s.isNamedLike) {
			return errors.New("it has two signers with the same issuer and serial number")
		}
		m.signers = append(m.signers, s)
	}
	return nil
}

// checkDigests compares the digest algorithms of a message with those of its signers: each one
// is used, and there are no more than signers. Some programs list one for each signer.
func (m *message) checkDigests(in cryptobyte.String) error {
	wrong := errors.New("its digest algorithm differs from the digest algorithm of its signer")
	listed := map[string]bool{}
	for n := 0; !in.Empty(); n++ {
		oid := readAlgorithm(&in)
		isUsed := slices.ContainsFunc(m.signers, func(s signer) bool { return s.digest == oid })
		if oid == "" || !isUsed || n == len(m.signers) {
			return wrong
		}
		listed[oid] = true
	}
	if slices.ContainsFunc(m.signers, func(s signer) bool { return !listed[s.digest] }) {
		return wrong
	}
	return nil
}

// parseCerts gives each signer its certificate. It fails if a certificate belongs to none.
func (m *message) parseCerts(in cryptobyte.String) error {
	for n := 0; n == 0 || !in.Empty(); n++ {
		var der cryptobyte.String
		if n == len(m.signers) {
			return errors.New("it contains more certificates than signers")
		}
		if !in.ReadASN1Element(&der, tags.SEQUENCE) {
			return errors.New("the list of certificates is damaged")
		}
		i := 0
		if len(m.signers) > 1 { // else match compares the only one
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return fmt.Errorf("a certificate in it is damaged: %w", err)
			}
			i = slices.IndexFunc(m.signers, func(s signer) bool { return s.isSignedBy(cert) })
		}
		if i < 0 || m.signers[i].cert != nil {
			return errors.New("it contains a certificate that is not one of its signers, or contains it twice")
		}
		m.signers[i].cert = der
	}
	return nil
}

// contains reports whether m has several signers, and the certificate of one with a SHA-256, in
// hexadecimal.
func (m message) contains(fingerprint string) bool {
	return len(m.signers) > 1 && slices.ContainsFunc(m.signers, func(s signer) bool {
		return s.cert != nil && fmt.Sprintf("%x", sha256.Sum256(s.cert)) == fingerprint
	})
}

func readVersion1(in *cryptobyte.String) bool {
	var version int
	return in.ReadASN1Integer(&version) && version == 1
}

// readOID reads an object identifier; it returns "" if in begins with another value.
func readOID(in *cryptobyte.String) string {
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1ObjectIdentifier(&oid) {
		return ""
	}
	return oid.String()
}

// readAlgorithm reads the object identifier of an algorithm whose parameters are absent or
// NULL; it returns "" if in begins with another value.
func readAlgorithm(in *cryptobyte.String) string {
	var alg, null cryptobyte.String
	if !in.ReadASN1(&alg, tags.SEQUENCE) {
		return ""
	}
	oid := readOID(&alg)
	if !alg.Empty() && (!alg.ReadASN1(&null, tags.NULL) || !null.Empty() || !alg.Empty()) {
		return ""
	}
	return oid
}
