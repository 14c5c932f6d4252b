package hosts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/proto/client"
)

const (
	// maxPEM is the largest certificate, key or list of authorities, in bytes.
	maxPEM = 1 << 20
	// maxToken is the largest file with a token, in bytes.
	maxToken = 4 << 10
)

// Dial returns a client of the target, as client.Dial does, with its certificates, token and
// commands. It fails for a key or a token that others can read.
func (t Target) Dial(options ...client.Option) (*client.Client, error) {
	own, _, err := t.options()
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", t.Name, err)
	}
	if len(t.Host.Endpoints) > 1 {
		// The endpoints of WithAlternatives take over options before it.
		own = append([]client.Option{client.WithAlternatives(t.Host.Endpoints[1:]...)}, own...)
	}
	return client.Dial(t.Host.Endpoints[0], append(own, options...)...)
}

// Expiry is when the certificates of a connection are no longer valid.
type Expiry struct{ Server, Client time.Time }

// options returns the options of the target, and where the end of the validity of its
// certificates is stored: the client's at once, the server's with each TLS handshake.
func (t Target) options() ([]client.Option, *Expiry, error) {
	h, expiry := t.Host, &Expiry{}
	var out []client.Option
	if len(h.SSHCommand) > 0 {
		out = append(out, client.WithSSH(h.SSHCommand...))
	}
	if len(h.RemoteCommand) > 0 {
		out = append(out, client.WithRemoteCommand(h.RemoteCommand...))
	}
	if h.TokenFile != "" {
		token := func(context.Context) (string, error) { return readToken(t.path(h.TokenFile)) }
		if _, err := token(context.Background()); err != nil { // before the first call
			return nil, nil, err
		}
		out = append(out, client.WithToken(token))
	}
	config, err := t.tls()
	if err != nil {
		return nil, nil, err
	}
	if len(config.Certificates) > 0 {
		expiry.Client = config.Certificates[0].Leaf.NotAfter
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		expiry.Server = s.PeerCertificates[0].NotAfter
		return nil
	}
	return append(out, client.WithTLS(config)), expiry, nil
}

// tls returns the TLS settings of the target.
func (t Target) tls() (*tls.Config, error) {
	h := t.Host
	config := &tls.Config{ServerName: h.ServerName, MinVersion: tls.VersionTLS12}
	if h.CA != "" {
		text, err := regfile.ReadFile(t.path(h.CA), maxPEM)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, errkind.Errorf(errkind.Invalid, "read the authorities: %s has no certificate in PEM form", t.path(h.CA))
		}
	}
	if h.Certificate != "" {
		pair, err := t.pair()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (t Target) pair() (tls.Certificate, error) {
	certificate, err := regfile.ReadFile(t.path(t.Host.Certificate), maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := readSecret(t.path(t.Host.Key), maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the key: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return pair, errkind.With(errkind.Invalid, fmt.Errorf("read the certificate %s and its key: %w", t.path(t.Host.Certificate), err))
	}
	return pair, nil
}

func readToken(path string) (string, error) {
	text, err := readSecret(path, maxToken)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (t Target) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(t.folder, name)
}

// A Check is what one endpoint of a host has answered.
type Check struct {
	Endpoint string
	Version  string // of the daemon
	// RoundTrip is the time of one call over a connection that exists.
	RoundTrip time.Duration
	// Expiry has zero times where there is no certificate.
	Expiry Expiry
	Err    error
}

// Check connects to an endpoint of the target, and to no other.
func (t Target) Check(ctx context.Context, endpoint string) Check {
	check := Check{Endpoint: endpoint}
	one := t
	one.Host.Endpoints = []string{endpoint}
	if !strings.HasPrefix(endpoint, "tls://") {
		one.Host.TokenFile, one.Host.Certificate, one.Host.CA = "", "", ""
	}
	options, expiry, err := one.options()
	if err != nil {
		check.Err = err
		return check
	}
	c, err := client.Dial(endpoint, options...)
	if err != nil {
		check.Err = err
		return check
	}
	defer func() { _ = c.Close() }()
	if _, check.Err = c.Server(ctx); check.Err == nil {
		began := time.Now()
		check.Version, check.Err = c.Version(ctx)
		check.RoundTrip = time.Since(began)
	}
	check.Expiry = *expiry
	return check
}
