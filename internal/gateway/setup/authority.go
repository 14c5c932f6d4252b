package setup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is renewed.
	renewBefore = 30 * 24 * time.Hour
	// backdate is how far the clock of a client may be behind.
	backdate = time.Hour
)

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// readPair reads a certificate and its key from NAME.crt and NAME.key; nil if there is no
// certificate.
func readPair(base string) (*pair, error) {
	cert, err := readPEM(base+".crt", "CERTIFICATE")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := readPEM(base+".key", "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, errkind.With(errkind.Corrupt, fmt.Errorf("read %s.crt: %w", base, err))
	}
	k, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, errkind.With(errkind.Corrupt, fmt.Errorf("read %s.key: %w", base, err))
	}
	own, ok := k.(*ecdsa.PrivateKey)
	if !ok || !own.PublicKey.Equal(c.PublicKey) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Corrupt, "read %s.key: it is not the ECDSA key of %s.crt", base, base), "move both files aside")
	}
	return &pair{c, own}, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := regfile.ReadFile(path, 1<<20)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Corrupt, "read %s: it does not begin with a %s in PEM", path, kind), "move the file aside")
	}
	return block.Bytes, nil
}

// write writes NAME.key, which the group gid can read if keyMode says so, and then NAME.crt.
func (p *pair) write(base string, keyMode fs.FileMode, gid int) error {
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return fmt.Errorf("write %s.key: %w", base, err)
	}
	if err := atomicfile.WriteForGroup(base+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), keyMode, gid); err != nil {
		return err
	}
	return atomicfile.WriteForGroup(base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}), 0o644, gid)
}

// issue signs a certificate for template with a new key; a nil authority signs itself.
func (p *pair) issue(template *x509.Certificate, life time.Duration, now time.Time) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(life)
	parent, signer := template, key
	if p != nil {
		parent, signer = p.cert, p.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &pair{cert, key}, nil
}

// isGood reports whether a pair has a signature of the authority and lasts for renewBefore.
func (p *pair) isGood(authority *pair, now time.Time) bool {
	return p != nil && p.cert.CheckSignatureFrom(authority.cert) == nil && now.Add(renewBefore).Before(p.cert.NotAfter)
}

// authority returns the authority in the folder, which it makes if there is none.
func (s *setup) authority() (*pair, error) {
	base := filepath.Join(s.dir, "ca")
	ca, err := readPair(base)
	if err != nil {
		return nil, err
	}
	if ca != nil && s.now.Add(renewBefore).Before(ca.cert.NotAfter) {
		s.say("kept", base+".crt")
		return ca, nil
	}
	ca, err = (*pair)(nil).issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Trident gateway of " + s.Names[0]}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, authorityLife, s.now)
	if err != nil {
		return nil, err
	}
	s.say("made", base+".crt")
	return ca, ca.write(base, 0o600, s.GID)
}

// serverCertificate makes the certificate of the gateway for all names of the host, unless
// there is one.
func (s *setup) serverCertificate(ca *pair) error {
	base := filepath.Join(s.dir, "server")
	old, err := readPair(base)
	if err != nil {
		return err
	}
	if old.isGood(ca, s.now) && !slices.ContainsFunc(s.Names, func(name string) bool { return old.cert.VerifyHostname(name) != nil }) {
		s.say("kept", base+".crt")
		return nil
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: s.Names[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	for _, name := range s.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	made, err := ca.issue(template, certificateLife, s.now)
	if err != nil {
		return err
	}
	s.say("made", base+".crt")
	return made.write(base, 0o640, s.GID)
}

// clientCertificate makes the certificate of the administrator, unless there is one. Only
// root can read its key.
func (s *setup) clientCertificate(ca *pair) error {
	folder := filepath.Join(s.dir, "clients")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	base := filepath.Join(folder, "admin")
	old, err := readPair(base)
	if err != nil {
		return err
	}
	if old.isGood(ca, s.now) {
		s.say("kept", base+".crt")
		return nil
	}
	made, err := ca.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "admin"}, URIs: []*url.URL{{Scheme: "trident", Host: "admin"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, certificateLife, s.now)
	if err != nil {
		return err
	}
	s.say("made", base+".crt")
	return made.write(base, 0o600, s.GID)
}
