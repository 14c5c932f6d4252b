package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(t, template)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.Subject = pkix.Name{CommonName: "test"}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) leaf(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// gateway serves over TLS and passes on to a server.
func gateway(t *testing.T, s *clienttest.Server, config *tls.Config) (target string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Cleanup(s.Close)
	s.Serve(l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "tls://localhost:" + port
}

func TestTLSFromBothSides(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	leaf := ours.leaf(t)
	mutual := &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool}
	for name, tt := range map[string]struct {
		server, client *tls.Config
		kind           client.ErrorKind
	}{
		"a server that is trusted":       {&tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}}, &tls.Config{RootCAs: ours.pool}, ""},
		"one that is not":                {&tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}}, &tls.Config{RootCAs: theirs.pool}, "UNTRUSTED"},
		"one of another name":            {&tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}}, &tls.Config{RootCAs: ours.pool, ServerName: "elsewhere"}, "UNTRUSTED"},
		"a client that is trusted":       {mutual, &tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{leaf}}, ""},
		"a client without a certificate": {mutual, &tls.Config{RootCAs: ours.pool}, "DENIED"},
		"a client that is not trusted":   {mutual, &tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{theirs.leaf(t)}}, "DENIED"},
	} {
		t.Run(name, func(t *testing.T) {
			target := gateway(t, clienttest.New(clienttest.Config{Version: "1.0.0"}), tt.server)
			c, err := client.Dial(target, client.WithTLS(tt.client))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			v, err := c.Version(t.Context())
			if got := client.Kind(err); got != tt.kind || (err == nil) != (v == "1.0.0") {
				t.Errorf("version %q, error %v of kind %q, want %q", v, err, got, tt.kind)
			}
			if err != nil && (client.Hint(err) == "" || client.Retriable(err)) {
				t.Errorf("hint %q, retriable %t", client.Hint(err), client.Retriable(err))
			}
		})
	}
}

func TestASecretInATargetIsRefusedAndNotRepeated(t *testing.T) {
	for _, target := range []string{"tls://host:1?token=abc123", "tls://user:abc123@host:1", "tls://host:1/abc123", "tls://host:1#abc123"} {
		c, err := client.Dial(target)
		if err == nil {
			_ = c.Close()
		}
		if client.Kind(err) != client.KindInvalid || strings.Contains(err.Error(), "abc123") || !strings.Contains(client.Hint(err), "tokenFile") {
			t.Errorf("%s: %v", target, err)
		}
	}
}
