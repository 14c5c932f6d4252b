package fetch

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// What a host says of servers: credentials for registries, in the form of docker's
// config.json, and the certificates of authorities that count besides the system's,
// each file (*.crt, *.pem) one or more in PEM form.
const (
	hostLogin = "etc/trident/registry-auth.json"
	hostCAs   = "etc/trident/ca.d"
	maxCA     = 1 << 20
)

// HostLogin returns the credentials for registries of the host below root; nil: it
// has none.
func HostLogin(root string) (func(registry string) (user, password string), error) {
	auth, err := inroot.FS(root).ReadFile(hostLogin, maxLogin)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var login func(string) (string, string)
	if err == nil {
		login, err = RegistryLogin(auth)
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", hostLogin, err)
	}
	return login, nil
}

// HostRoots returns the authorities for TLS of the host below root: the system's, and
// those in /etc/trident/ca.d; nil stands for the system's alone.
func HostRoots(root string) (*x509.CertPool, error) {
	names, err := inroot.FS(root).List(hostCAs)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", hostCAs, err)
	}
	var pool *x509.CertPool
	for _, name := range names {
		if !strings.HasSuffix(name, ".crt") && !strings.HasSuffix(name, ".pem") {
			continue
		}
		name = path.Join(hostCAs, name)
		pem, err := inroot.FS(root).ReadFile(name, maxCA)
		if err == nil {
			pool, err = AddRoots(pool, pem)
		}
		if err != nil {
			return nil, errkind.WithHint(fmt.Errorf("read authority /%s: %w", name, err), "Mend or remove that file.")
		}
	}
	return pool, nil
}

// AddRoots adds certificates in PEM form to pool, of which nil stands for the
// system's.
func AddRoots(pool *x509.CertPool, pem []byte) (*x509.CertPool, error) {
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errkind.Errorf(errkind.Invalid, "it has no certificate in PEM form")
	}
	return pool, nil
}

// OfHost gives a source what the host below root says of servers.
func (s *Source) OfHost(root string) (err error) {
	if s.Login, err = HostLogin(root); err == nil {
		s.Roots, err = HostRoots(root)
	}
	return err
}
