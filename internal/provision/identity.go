package provision

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/isopatch"
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

// agentPaths are the placeholders for the configuration of the agent: those of live images of
// upstream's, and of ours.
var agentPaths = []string{"/trident_cdrom/rcp-agent.yaml", agentPath, "/etc/rcp-agent/config.yaml"}

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

// agentConfig returns the configuration of the agent, with the keys of upstream's alone.
func (r *Run) agentConfig() []byte {
	var out bytes.Buffer
	text := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	fmt.Fprintf(&out, "clientAddress: %q\nserverAddress: /run/trident/trident.sock\nrcpClientTls:\n", r.announced(r.socket))
	fmt.Fprintf(&out, "  certData: %s\n  keyData: %s\n  serverCert: %s\n", text(r.keys.machine), text(r.keys.secret), text(r.keys.authority))
	return out.Bytes()
}

// patches returns what to put into the placeholders that an image has: the configuration of
// the agent into at least one, and the Host Configuration if it fits.
func (r *Run) patches(found []isopatch.Placeholder, agent []byte) ([]isopatch.Patch, error) {
	var out []isopatch.Patch
	config := r.config.YAML()
	hasAgent := false
	for _, p := range found {
		switch {
		case slices.Contains(agentPaths, p.Path):
			out, hasAgent = append(out, isopatch.Patch{Path: p.Path, Content: agent}), true
		case p.Path == configPath && int64(len(config)) <= p.Size:
			out = append(out, isopatch.Patch{Path: p.Path, Content: config})
		case p.Path == configPath: // the agent gets it over the connection
			r.options.Notice(fmt.Sprintf("The Host Configuration has %d bytes, and its placeholder in the live image has %d: the image stays without it.", len(config), p.Size))
		}
	}
	if hasAgent {
		return out, nil
	}
	err := errkind.Errorf(errkind.NotFound, "it has no placeholder for the configuration of the agent (%s, or an earlier name)", agentPath)
	return nil, errkind.WithHint(err, "Use a live image that has one and was not patched before. See docs/provisioning.md.")
}

// Towards returns the address of this host from which packets to a host:port are sent.
func Towards(ctx context.Context, remote string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", remote)
	if err != nil {
		err = errkind.With(errkind.Precondition, fmt.Errorf("find the address of this host: %w", err))
		return "", errkind.WithHint(err, "Name it with --address.")
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

func absolute(path string) (string, error) {
	out, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open image: %w", err)
	}
	return out, nil
}
