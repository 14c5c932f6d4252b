// Package connecttest makes the certificates of listeners and of hosts that connect out, for
// tests.
package connecttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority signs certificates, which are valid for an hour.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte
	Pool *x509.CertPool
}

// Pair is a certificate and its key.
type Pair struct {
	Certificate, Key []byte // PEM
	TLS              tls.Certificate
}

// NewAuthority returns an authority with a key of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Pool: x509.NewCertPool()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	pair := a.sign(template)
	a.cert, a.key, a.PEM = pair.TLS.Leaf, pair.TLS.PrivateKey.(*ecdsa.PrivateKey), pair.Certificate
	a.Pool.AddCert(a.cert)
	return a
}

// Issue returns a certificate for DNS names.
func (a *Authority) Issue(names ...string) Pair {
	a.t.Helper()
	return a.sign(&x509.Certificate{DNSNames: names})
}

// IssueExpired returns a certificate that expired a minute ago.
func (a *Authority) IssueExpired(names ...string) Pair {
	a.t.Helper()
	return a.sign(&x509.Certificate{DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute)})
}

// SelfSigned returns a certificate in the form of upstream's: no authority, and CN=localhost.
func SelfSigned(t testing.TB, names ...string) Pair {
	t.Helper()
	return (&Authority{t: t}).sign(&x509.Certificate{DNSNames: names, Subject: pkix.Name{CommonName: "localhost"}})
}

func (a *Authority) sign(template *x509.Certificate) Pair {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if template.Subject.CommonName == "" {
		template.Subject.CommonName = "test"
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	p := Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
	p.TLS, err = tls.X509KeyPair(p.Certificate, p.Key)
	a.check(err)
	return p
}

func (a *Authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
