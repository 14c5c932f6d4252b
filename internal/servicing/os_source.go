package servicing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// registryAuth has credentials for registries, in the form of docker's config.json.
const registryAuth = "etc/trident/registry-auth.json"

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
	origin := fetch.Origin{URL: from.url, Login: login, Pin: from.pin}
	if p, ok := strings.CutPrefix(origin.URL, "file://"); ok {
		origin.URL = "file://" + filepath.Join(s.Root, p)
	}
	i, err := image.Open(ctx, origin, from.digest, image.Options{
		Relaxed: from.relaxed, Meter: from.meter, Log: func(line string) { r.Logf(slog.LevelInfo, "%s", line) },
	})
	if err != nil && errkind.Variant(err) == "" {
		err = errkind.WithName(err, "LoadCosi")
	}
	return i, err
}

// registryLogin returns the credentials that this host has for registries; nil:
// it has none.
func (s *Service) registryLogin() (func(registry string) (user, password string), error) {
	auth, err := inroot.FS(s.Root).ReadFile(registryAuth, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", registryAuth, err)
	}
	login, err := fetch.RegistryLogin(auth)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", registryAuth, err)
	}
	return login, nil
}
