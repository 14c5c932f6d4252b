// Package trust decides which keys count, and vouches for what they signed.
//
// Which extensions a host merges is systemd's business, and any key in verity.d
// is good enough for that. Who may replace the agent that runs the host as root
// is another question, so it has a place of its own: trust.d. What was found
// good there is a Verified value, which only this package can make; what must
// not work with unverified bytes takes one.
//
// The signature is read by a parser of our own that knows one form of PKCS#7,
// the one that systemd, openssl and the kernel agree on. A general parser
// accepts several encodings of the same thing, recurses as deep as the input
// says, and hands out the certificates that the sender put in; here each byte
// is either given or checked.
package trust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

// Verified is a value that a trusted key vouches for.
//
// The zero Verified vouches for nothing and holds nothing: its Value is the
// zero T and false. There is no other way to get one than from this package, so
// a function that takes a Verified cannot be given unverified bytes.
type Verified[T any] struct {
	value  T
	signer string
	ok     bool
}

// Value returns what was verified; false only for the zero Verified.
func (v Verified[T]) Value() (T, bool) { return v.value, v.ok }

// Signer is the subject of the certificate whose key vouches for the value.
func (v Verified[T]) Signer() string { return v.signer }

// Verify checks that img is signed by a certificate of p that is valid at now,
// and that each byte of it is as it was signed. The first fault is the error:
// of kind Untrusted when no key that counts vouches for the root hash, of kind
// Corrupt when bytes are damaged. Progress, which may be nil, counts the bytes
// of the tree's data.
//
// The result is about the bytes that were read. A file can be changed or
// replaced afterwards, so whoever uses the image must go on using the file that
// img was opened from, and be the only one who may write to it.
func (p Policy) Verify(ctx context.Context, img *ddi.Image, now time.Time, progress func(done, total int64)) (Verified[*ddi.Image], error) {
	cert, err := p.signerOf(img.RootHash(), img.Signature(), now)
	return verifyBlocks(ctx, img, cert, progress, err)
}

// VerifyKept is Verify for an image that this host has accepted before and has
// kept: the dates of the certificate have been checked then, and a clock that is
// wrong now, or a certificate that has expired since, must not bar the way back.
// late is what Verify would have said about the dates.
func (p Policy) VerifyKept(ctx context.Context, img *ddi.Image, now time.Time, progress func(done, total int64)) (v Verified[*ddi.Image], dateFault, err error) {
	cert, err := p.signerAnyDate(img.RootHash(), img.Signature())
	if err == nil {
		dateFault = cert.validAt(now)
	}
	v, err = verifyBlocks(ctx, img, cert, progress, err)
	return v, dateFault, err
}

// CheckSignature is VerifyKept without a look at the blocks of the image, so it
// vouches for nothing: it says whether VerifyKept would fail for want of a
// signature that counts.
func (p Policy) CheckSignature(img *ddi.Image) error {
	if _, err := p.signerAnyDate(img.RootHash(), img.Signature()); err != nil {
		return fmt.Errorf("check signature of image: %w", err)
	}
	return nil
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

// signerOf returns the certificate of p by which sig signs root, if it is valid at
// now.
func (p Policy) signerOf(root [32]byte, sig *ddi.Signature, now time.Time) (trustedCert, error) {
	cert, err := p.signerAnyDate(root, sig)
	if err != nil {
		return trustedCert{}, err
	}
	return cert, cert.validAt(now)
}

// signerAnyDate is signerOf, whatever the dates of the certificate are.
func (p Policy) signerAnyDate(root [32]byte, sig *ddi.Signature) (trustedCert, error) {
	if sig == nil {
		return trustedCert{}, errkind.Errorf(errkind.Untrusted, "the image is not signed")
	}
	if len(p.certs) == 0 {
		return trustedCert{}, errkind.WithHint(errkind.Errorf(errkind.Untrusted, "no certificate is trusted on this host"),
			"The package or the OS image of Trident brings the certificate of its vendor, in /usr/lib/trident/trust.d. Repair that, or remove what hides it in /etc/trident/trust.d.")
	}
	msg, err := parsePKCS7(sig.PKCS7)
	if err != nil {
		return trustedCert{}, errkind.WithHint(errkind.Errorf(errkind.Corrupt, "read PKCS#7: %w", err),
			"If the image arrived whole, have it signed again: trident sysext sign, or %s", signCommand)
	}
	cert, err := p.match(msg, []byte(ddi.HashString(root)))
	if err != nil {
		return trustedCert{}, err
	}
	// Informational for others; for us one thing less that may be altered.
	if sig.CertificateFingerprint != "" && sig.CertificateFingerprint != cert.fingerprint() {
		return trustedCert{}, errkind.Errorf(errkind.Corrupt, "the signature is by %q, but carries another certificate's fingerprint", cert.Subject)
	}
	return cert, nil
}

// ErrUnknownSigner is about a signature by a certificate that is not in the policy.
var ErrUnknownSigner = errors.New("not trusted")

// match finds the certificate that made the signature. Issuer and serial number
// only say where to look: several certificates may bear the same.
func (p Policy) match(msg message, content []byte) (trustedCert, error) {
	var fault error
	for _, cert := range p.certs {
		if !msg.isSignedBy(cert.Certificate) {
			continue
		}
		if fault = msg.verify(cert.Certificate, content); fault == nil {
			return cert, nil
		}
	}
	if fault != nil {
		return trustedCert{}, fault
	}
	return trustedCert{}, errkind.WithHint(
		errkind.Errorf(errkind.Untrusted, "it is signed by a certificate that is %w (serial number %x, issuer %s)", ErrUnknownSigner, msg.serial, msg.issuerName()),
		"Take the image from a vendor whom this host trusts already: trident self status lists the certificates of /usr/lib/trident/trust.d and /etc/trident/trust.d.")
}
