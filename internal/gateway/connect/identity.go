package connect

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// config returns the settings of the TLS client: TLS 1.3, the certificate of this host, and
// only the listener's authority, without ALPN, as upstream's agent does. It fails with
// Invalid for malformed material, and with TLS for a certificate that is not valid now.
func (t *Identity) config(now time.Time) (*tls.Config, error) {
	certificate, err := material(t.Certificate, t.CertificateFile)
	if err != nil {
		return nil, err
	}
	key, err := material(t.Key, t.KeyFile)
	if err != nil {
		return nil, err
	}
	ca, err := material(t.CA, t.CAFile)
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, errkind.With(errkind.Invalid, fmt.Errorf("the certificate and key of this host: %w", err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errkind.Errorf(errkind.Invalid, "the certificate of the listener: no certificate in PEM")
	}
	switch leaf := own.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, errkind.Errorf(errkind.TLS, "the certificate of this host has expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, errkind.WithHint(errkind.Errorf(errkind.TLS, "the certificate of this host is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339)),
			"The clock of this host may be wrong.")
	}
	return &tls.Config{
		// Not Certificates: with these the client sends none to a listener that names other
		// authorities, and the listener cannot say which one it refuses.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
		RootCAs:              pool,
		ServerName:           t.ServerName,
		MinVersion:           tls.VersionTLS13,
	}, nil
}

// material returns data, or else the content of the file.
func material(data []byte, file string) ([]byte, error) {
	if file == "" {
		return data, nil
	}
	return regfile.ReadFile(file, maxConfig)
}
