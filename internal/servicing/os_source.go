package servicing

import (
	"context"
	"log/slog"

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
	src, err := fetch.Source{URL: from.url}.OnHost(s.Root)
	if err != nil {
		return nil, err
	}
	i, err := image.Open(ctx, src, from.digest, image.Options{
		Relaxed: from.relaxed, Pin: from.pin, Meter: from.meter, Log: func(line string) { r.Logf(slog.LevelInfo, "%s", line) },
	})
	if err != nil && errkind.Variant(err) == "" {
		err = errkind.WithName(err, errkind.NameLoadCosi)
	}
	return i, err
}
