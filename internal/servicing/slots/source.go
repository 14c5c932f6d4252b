package slots

import (
	"context"
	"log/slog"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/servicing/change"
)

// imageSource says from where Trident reads an image.
type imageSource struct {
	url     string
	pin     fetch.Pin
	digest  string // of the metadata, or Ignored
	relaxed bool   // see image.Options
	meter   *fetch.Meter
}

// open opens an image, with this host's credentials for registries.
func (s *Service) open(ctx context.Context, from imageSource, r change.Logger) (*image.Image, error) {
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

// ImageOf returns the image hash in a recorded configuration, or "".
func ImageOf(spec string) string {
	c, err := change.ParseSpec(spec)
	if err != nil || c.Spec().Image == nil || c.Spec().Image.SHA384 == hostconfig.HashIgnored {
		return ""
	}
	return string(c.Spec().Image.SHA384)
}

// imageTime limits the wait of KnownImage for the metadata of an image.
const imageTime = 30 * time.Second

// KnownImage returns c, and replaces an ignored image hash if the image is the one that the
// host runs, at another URL. It ignores an image that it cannot open: the operation will
// report why.
func (s *Service) KnownImage(ctx context.Context, c *hostconfig.Config) (*hostconfig.Config, error) {
	want := c.Spec().Image
	if _, busy := s.Runner.Active(); busy || want == nil || want.SHA384 != hostconfig.HashIgnored {
		return c, nil
	}
	st, err := s.State(ctx)
	if err != nil {
		return c, err
	}
	at := func(has *hostconfig.Config) bool {
		return has != nil && has.Spec().Image != nil && has.Spec().Image.URL == want.URL
	}
	if st.Runs == nil || st.Runs.Spec().Image == nil || at(st.Runs) || at(st.Next) {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, imageTime)
	defer cancel()
	i, err := s.open(ctx, imageSource{
		url: string(want.URL), digest: Ignored, relaxed: change.Flag(c, "relaxedCosiValidation"), meter: fetch.NewMeter(change.Number(c, paramRate), change.Number(c, paramBudget), 0),
	}, silent{})
	if err != nil {
		return c, nil
	}
	defer i.Close()
	if hash := hostconfig.ImageHash(i.SHA384()); hash == st.Runs.Spec().Image.SHA384 {
		return c.Amend(func(spec *hostconfig.Spec) { spec.Image.SHA384 = hash }), nil
	}
	return c, nil
}

// silent is a change.Logger that discards all lines.
type silent struct{}

func (silent) Logf(slog.Level, string, ...any) {}
