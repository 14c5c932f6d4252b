package servicing

import (
	"context"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
)

// imageSource is where an image of an OS, or of a disk, is read.
type imageSource struct {
	url     string
	pin     fetch.Pin
	digest  string // of the metadata, or Ignored
	relaxed bool   // see image.Options
	meter   *fetch.Meter
}

// open opens it with what this host may show to registries.
func (s *Service) open(ctx context.Context, from imageSource, r teller) (*image.Image, error) {
	login, err := s.registryLogin()
	if err != nil {
		return nil, err
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	origin := fetch.Origin{URL: from.url, Login: login, Roots: roots, Pin: from.pin}
	if p, ok := strings.CutPrefix(origin.URL, "file://"); ok {
		origin.URL = "file://" + filepath.Join(s.Root, p)
	}
	i, err := image.Open(ctx, origin, from.digest, image.Options{
		Relaxed: from.relaxed, Meter: from.meter, Log: func(line string) { r.Logf(slog.LevelInfo, "%s", line) },
	})
	if err != nil && errkind.Variant(err) == "" {
		err = errkind.WithName(err, errkind.NameLoadCosi)
	}
	return i, err
}

// registryLogin returns the credentials that this host has for registries.
func (s *Service) registryLogin() (func(registry string) (user, password string), error) {
	return fetch.HostLogin(s.Root)
}

// roots returns the authorities that count on this host for TLS.
func (s *Service) roots() (*x509.CertPool, error) { return fetch.HostRoots(s.Root) }
