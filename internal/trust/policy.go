package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// Policy is a set of certificates. One without any refuses everything.
type Policy struct {
	certs []trusted
}

// trusted is a certificate that counts.
type trusted struct {
	*x509.Certificate
	path string
}

// Certificate is what is shown of one.
type Certificate struct {
	Subject     string
	Fingerprint string // SHA-256 of its DER form, in lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	Path        string // of its file, as seen from the root folder
}

// Limits of a trust.d file, and of all together.
const (
	maxFile  = 64 << 10
	maxCerts = 256
)

// Load reads the certificates that are trusted on the host below root:
// /usr/lib/trident/trust.d is the vendor's, /etc/trident/trust.d the
// administrator's. A file in the latter stands in for one of its name in the
// former; an empty one, or a link to /dev/null, removes it. A file that holds
// anything but certificates is an error: guessing what was meant would be worse
// than not starting.
func Load(root string) (Policy, error) {
	fsys := inroot.FS(root)
	files, err := fsys.DropIns(".crt", "etc/trident/trust.d", "usr/lib/trident/trust.d")
	if err != nil {
		return Policy{}, fmt.Errorf("list trusted certificates: %w", err)
	}
	var p Policy
	for _, file := range files {
		data, err := fsys.ReadFile(file, maxFile)
		if err != nil {
			return Policy{}, fmt.Errorf("read trusted certificate: %w", err)
		}
		certs, err := parsePEM(data)
		if err != nil {
			return Policy{}, errkind.WithHint(
				errkind.Errorf(errkind.Precondition, "read trusted certificate /%s: %w", file, err),
				"Repair the file. An empty one of its name in /etc/trident/trust.d hides it.")
		}
		for _, cert := range certs {
			p.add(trusted{cert, "/" + file})
		}
	}
	if len(p.certs) > maxCerts {
		return Policy{}, errkind.Errorf(errkind.TooLarge, "read trusted certificates: there are %d, more than %d", len(p.certs), maxCerts)
	}
	return p, nil
}

func (p *Policy) add(cert trusted) {
	if !slices.ContainsFunc(p.certs, func(o trusted) bool { return o.Equal(cert.Certificate) }) {
		p.certs = append(p.certs, cert)
	}
}

func parsePEM(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break // words around the certificates are usual
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %.40q, which is no certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs, data = append(certs, cert), rest
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return certs, nil
}

// Certificates lists what is trusted, by file name.
func (p Policy) Certificates() []Certificate {
	var list []Certificate
	for _, c := range p.certs {
		list = append(list, Certificate{c.Subject.String(), c.fingerprint(), c.NotBefore, c.NotAfter, c.path})
	}
	return list
}

func (c trusted) fingerprint() string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func (c trusted) validAt(now time.Time) error {
	const hint = "The clock of this host says %s. Correct it if that is wrong; else have the image signed again with a valid certificate."
	switch at := now.UTC().Format(time.RFC3339); {
	case now.Before(c.NotBefore):
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "the certificate %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339)), hint, at)
	case now.After(c.NotAfter):
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "the certificate %q was valid until %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)), hint, at)
	}
	return nil
}
