package provision

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	// serverName is the name that agents, ours and upstream's, expect in the certificate of
	// a listener.
	serverName = "reverseconnectproxy"
	// agentPath is the configuration of the agent in an installed system.
	agentPath = "/etc/trident/connect.yaml"
	// configPath is the placeholder for the Host Configuration.
	configPath = "/etc/trident/config.yaml"
	// The clock of an empty machine may be wrong by a day.
	validBefore, validAfter = 24 * time.Hour, 48 * time.Hour
	// defaultRoute is an address behind the default route (RFC 5737): no packet is sent to it.
	defaultRoute = "192.0.2.1:9"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return errkind.Errorf(errkind.Invalid, "the name of the machine is %q, and must be a DNS name of letters, digits, dots and hyphens", name)
	}
	return nil
}

// keys are the certificates of one run. The key of their authority is not kept.
type keys struct {
	authority       []byte // PEM
	pool            *x509.CertPool
	own             tls.Certificate // of this host
	machine, secret []byte          // certificate and key of the machine, PEM
}

func newKeys(name string) (*keys, error) {
	out, err := makeKeys(name, time.Now())
	if err != nil {
		return nil, fmt.Errorf("make certificates for this run: %w", err)
	}
	return out, nil
}

func makeKeys(name string, now time.Time) (*keys, error) {
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "trident provision"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, rootKey, err := issue(ca, nil, nil, now)
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{DNSNames: []string{serverName}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	own, ownKey, err := issue(server, root, rootKey, now)
	if err != nil {
		return nil, err
	}
	host := &x509.Certificate{DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	theirs, theirKey, err := issue(host, root, rootKey, now)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(theirKey)
	if err != nil {
		return nil, err
	}
	out := &keys{
		authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), pool: x509.NewCertPool(),
		own:     tls.Certificate{Certificate: [][]byte{own.Raw}, PrivateKey: ownKey, Leaf: own},
		machine: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: theirs.Raw}),
		secret:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
	out.pool.AddCert(root)
	return out, nil
}

// issue signs a certificate with a new key; without a parent it signs itself.
func issue(template, parent *x509.Certificate, signer *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, now.Add(-validBefore), now.Add(validAfter)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func (k *keys) listener() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{k.own}, ClientCAs: k.pool, MinVersion: tls.VersionTLS13}
}
