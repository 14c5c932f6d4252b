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

// The files of a host about servers: credentials for registries, in the form of docker's
// config.json, and the folder of certificate authorities besides the system's, whose
// files (*.crt, *.pem) have one or more certificates in PEM form.
const (
	loginFile = "etc/trident/registry-auth.json"
	rootsDir  = "etc/trident/ca.d"
	maxCA     = 1 << 20
)

// hostLogin returns a function with the registry credentials of the host below root, or
// nil if the host has none.
func hostLogin(root string) (Login, error) {
	auth, err := inroot.FS(root).ReadFile(loginFile, maxLogin)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var login Login
	if err == nil {
		login, err = RegistryLogin(auth)
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", loginFile, err)
	}
	return login, nil
}

// hostRoots returns the certificate authorities of the host below root: the system's and
// those in /etc/trident/ca.d; nil means the system's only.
func hostRoots(root string) (*x509.CertPool, error) {
	names, err := inroot.FS(root).List(rootsDir)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", rootsDir, err)
	}
	var pool *x509.CertPool
	for _, name := range names {
		if !strings.HasSuffix(name, ".crt") && !strings.HasSuffix(name, ".pem") {
			continue
		}
		name = path.Join(rootsDir, name)
		pem, err := inroot.FS(root).ReadFile(name, maxCA)
		if err == nil {
			pool, err = AddRoots(pool, pem)
		}
		if err != nil {
			return nil, errkind.WithHint(fmt.Errorf("read authority /%s: %w", name, err), "Replace or remove that file.")
		}
	}
	return pool, nil
}

// AddRoots returns pool (nil: the system's authorities) with the certificates in pem added.
func AddRoots(pool *x509.CertPool, pem []byte) (*x509.CertPool, error) {
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errkind.Errorf(errkind.Invalid, "the file has no certificate in PEM form")
	}
	return pool, nil
}
