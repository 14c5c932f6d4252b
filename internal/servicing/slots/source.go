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

// imageSource is where an image of an OS, or of a disk, is read.
type imageSource struct {
	url     string
	pin     fetch.Pin
	digest  string // of the metadata, or Ignored
	relaxed bool   // see image.Options
	meter   *fetch.Meter
}

// open opens it with what this host may show to registries.
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

// ImageOf is the hash of the image of a recorded configuration; "" for none.
func ImageOf(spec string) string {
	c, err := change.ParseSpec(spec)
	if err != nil || c.Spec().Image == nil || c.Spec().Image.SHA384 == hostconfig.HashIgnored {
		return ""
	}
	return string(c.Spec().Image.SHA384)
}

// imageTime bounds how long the metadata of an image may take before it is known
// what an update has to do.
const imageTime = 30 * time.Second

// KnownImage is c with the hash of its image, if that is ignored and the image turns
// out to be the one that the host runs, at another URL. An image that cannot be
// opened is left to the operation, which tells why.
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

// silent is a change.Logger of what nobody follows.
type silent struct{}

func (silent) Logf(slog.Level, string, ...any) {}
