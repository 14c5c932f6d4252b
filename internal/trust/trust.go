// Package trust decides which keys are trusted, and verifies what they signed.
//
// systemd merges extensions that any key in verity.d has signed. Fewer keys may
// replace Trident, which runs as root, so these keys have a folder of their own:
// trust.d. A verified image is a Verified value, which only this package can make; a
// function that must not use unverified bytes takes a Verified.
//
// The package has its own parser of signatures. It knows the one form of PKCS#7 on
// which systemd, openssl and the kernel agree: by one signer, or by several of which it trusts
// one at least. A general parser accepts several
// encodings of the same value, recurses as deep as the input says, and returns
// certificates of the sender; in this parser each byte is either fixed by the format
// or checked.
package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// Verified is a value that was verified with the signature of a trusted key.
//
// The zero Verified proves nothing: its Value returns the zero T and false. Only this
// package makes other values.
type Verified[T any] struct {
	value  T
	signer string
	ok     bool
}

// Value returns the verified value; false only for the zero Verified.
func (v Verified[T]) Value() (T, bool) { return v.value, v.ok }

// Signer returns the subject of the certificate whose key has signed the value.
func (v Verified[T]) Signer() string { return v.signer }

// Verify checks that img is signed by a certificate of p that is valid at the time
// now, and that all bytes of img are as they were signed. It returns the first
// fault: of kind Untrusted if no trusted key has signed the root hash, of kind
// Corrupt if bytes are damaged. progress, which may be nil, gets the verified and
// the total bytes of the data.
//
// Verify proves only the bytes that it has read. So the caller must continue with
// the open file of img, not open its path again, and no other process may be able to
// write to the file.
func (p Policy) Verify(ctx context.Context, img *ddi.Image, now time.Time, progress func(done, total int64)) (Verified[*ddi.Image], error) {
	cert, err := p.signerOf(img.RootHash(), img.Signature(), now)
	return verifyBlocks(ctx, img, cert, progress, err)
}

// VerifyKept is Verify for an image that this host has accepted and kept. Verify
// checked the dates of the certificate then; a wrong clock or an expired certificate
// must not prevent a rollback. dateFault is the error that Verify would return about
// the dates.
func (p Policy) VerifyKept(ctx context.Context, img *ddi.Image, now time.Time, progress func(done, total int64)) (v Verified[*ddi.Image], dateFault, err error) {
	cert, err := p.signerAnyDate(img.RootHash(), img.Signature(), now)
	if err == nil {
		dateFault = cert.validAt(now)
	}
	v, err = verifyBlocks(ctx, img, cert, progress, err)
	return v, dateFault, err
}

// VerifyAgain is VerifyKept for an image that was verified before, as before, if nobody has
// changed the file since; the caller has to know that. It checks the signature by the present
// certificates, and reads no blocks.
func (p Policy) VerifyAgain(before Verified[*ddi.Image], img *ddi.Image, now time.Time) (v Verified[*ddi.Image], dateFault, err error) {
	old, ok := before.Value()
	if !ok || old.RootHash() != img.RootHash() {
		return v, nil, errkind.Errorf(errkind.Untrusted, "the image is not the one that was verified before")
	}
	cert, err := p.signerAnyDate(img.RootHash(), img.Signature(), now)
	if err != nil {
		return v, nil, fmt.Errorf("check signature of image: %w", err)
	}
	return Verified[*ddi.Image]{value: img, signer: cert.Subject.String(), ok: true}, cert.validAt(now), nil
}

// CheckSigner checks that sig is a signature of root by a certificate of p that is valid at
// the time now. It reads no image: what is proven is the root hash, and through it each block
// that matches the hash tree below it. Errors are those of Verify about signatures.
func (p Policy) CheckSigner(root [32]byte, sig *ddi.Signature, now time.Time) (Verified[[32]byte], error) {
	cert, err := p.signerOf(root, sig, now)
	if err != nil {
		return Verified[[32]byte]{}, fmt.Errorf("check signature of image: %w", err)
	}
	return Verified[[32]byte]{value: root, signer: cert.Subject.String(), ok: true}, nil
}

func verifyBlocks(ctx context.Context, img *ddi.Image, cert trustedCert, progress func(done, total int64), err error) (Verified[*ddi.Image], error) {
	if err != nil {
		return Verified[*ddi.Image]{}, fmt.Errorf("check signature of image: %w", err)
	}
	if err := img.VerifyTree(ctx, progress); err != nil {
		return Verified[*ddi.Image]{}, err
	}
	return Verified[*ddi.Image]{value: img, signer: cert.Subject.String(), ok: true}, nil
}

// signerOf returns the certificate of p whose key made the signature sig of root.
// It fails if the certificate is not valid at the time now.
func (p Policy) signerOf(root [32]byte, sig *ddi.Signature, now time.Time) (trustedCert, error) {
	cert, err := p.signerAnyDate(root, sig, now)
	if err != nil {
		return trustedCert{}, err
	}
	return cert, cert.validAt(now)
}

// signerAnyDate is signerOf without the check of the dates. Of several trusted signers it
// returns one whose certificate is valid at the time now, if there is one.
func (p Policy) signerAnyDate(root [32]byte, sig *ddi.Signature, now time.Time) (trustedCert, error) {
	if sig == nil {
		return trustedCert{}, errkind.Errorf(errkind.Untrusted, "the image is not signed")
	}
	if len(p.certs) == 0 {
		return trustedCert{}, errkind.WithHint(errkind.Errorf(errkind.Untrusted, "no certificate is trusted on this host"),
			"The package or the OS image of Trident installs the certificate of its vendor in /usr/lib/trident/trust.d. Repair that file, or remove the file of the same name in /etc/trident/trust.d.")
	}
	msg, err := parsePKCS7(sig.PKCS7)
	if err != nil {
		return trustedCert{}, errkind.WithHint(errkind.Errorf(errkind.Corrupt, "read PKCS#7: %w", err),
			"If the image is complete, sign it again: trident sysext sign, or %s", signCommand)
	}
	signers, err := p.match(msg, []byte(ddi.HashString(root)))
	if err != nil {
		return trustedCert{}, err
	}
	cert := signers[max(0, slices.IndexFunc(signers, func(c trustedCert) bool { return c.validAt(now) == nil }))]
	// The fingerprint is informational for systemd. Trident checks it, so that nobody can alter it.
	// Of several signers it may name any.
	if sig.CertificateFingerprint != "" && sig.CertificateFingerprint != cert.fingerprint() && !msg.contains(sig.CertificateFingerprint) {
		return trustedCert{}, errkind.Errorf(errkind.Corrupt, "the signature is by %q, but contains the fingerprint of another certificate", cert.Subject)
	}
	return cert, nil
}

// ErrUnknownSigner means that the certificate of the signature is not in the
// policy.
var ErrUnknownSigner = errors.New("not trusted")

// match returns the certificates of p that made signatures of msg, at least one. It follows the kernel's rule
// for several signers (pkcs7_verify and pkcs7_validate_trust in its crypto/asymmetric_keys): one
// trusted signer is enough, and no signature may be wrong. A signer that p does not trust must
// have its certificate in msg, so that its signature can be checked.
func (p Policy) match(msg message, content []byte) ([]trustedCert, error) {
	var found []trustedCert
	var unknown []signer
	for _, s := range msg.signers {
		cert, err := p.matchSigner(s, content)
		if errors.Is(err, ErrUnknownSigner) {
			unknown = append(unknown, s)
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, cert)
	}
	if len(found) == 0 {
		return nil, unknown[0].unknownError()
	}
	for _, s := range unknown {
		if err := s.verifyByItself(content); err != nil {
			return nil, errkind.WithHint(errkind.Errorf(errkind.Untrusted, "beside the signature by %q, one is wrong: %w", found[0].Subject, err),
				"Sign the image again with all keys.")
		}
	}
	return found, nil
}

// matchSigner returns the certificate of p that made the signature of s. Several certificates
// may have the same issuer and serial number, so it tries each of them.
func (p Policy) matchSigner(s signer, content []byte) (trustedCert, error) {
	fault := error(ErrUnknownSigner)
	for _, cert := range p.certs {
		if !s.isSignedBy(cert.Certificate) {
			continue
		}
		if fault = s.verify(cert.Certificate, content); fault == nil {
			return cert, nil
		}
	}
	return trustedCert{}, fault
}

// unknownError says that no trusted certificate is the one of s.
func (s signer) unknownError() error {
	return errkind.WithHint(
		errkind.Errorf(errkind.Untrusted, "it is signed by a certificate that is %w (serial number %x, issuer %s)", ErrUnknownSigner, s.serial, s.issuerName()),
		"Use an image of a vendor that this host trusts: trident self status lists the certificates of /usr/lib/trident/trust.d and /etc/trident/trust.d.")
}

// verifyByItself checks the signature of s with the certificate in the message. That proves no
// trust.
func (s signer) verifyByItself(content []byte) error {
	if s.cert == nil {
		return fmt.Errorf("the certificate with serial number %x, issuer %s, is neither trusted nor in the message", s.serial, s.issuerName())
	}
	cert, err := x509.ParseCertificate(s.cert)
	if err != nil {
		return err
	}
	return s.verify(cert, content)
}
