package disks

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

// Source says from where Trident reads an image.
type Source struct {
	URL     string
	Pin     fetch.Pin
	Digest  string // of the metadata, or [hostconfig.HashIgnored]
	Relaxed bool   // see image.Options
	Meter   *fetch.Meter
}

// Open opens an image, with this host's credentials for registries.
func (d *Disks) Open(ctx context.Context, from Source, r change.Logger) (*image.Image, error) {
	src, err := fetch.Source{URL: from.URL}.OnHost(d.Root)
	if err != nil {
		return nil, err
	}
	i, err := image.Open(ctx, src, from.Digest, image.Options{
		Relaxed: from.Relaxed, Pin: from.Pin, Meter: from.Meter, Log: func(line string) { r.Logf(slog.LevelInfo, "%s", line) },
	})
	if err != nil && errkind.Variant(err) == "" {
		err = errkind.WithName(err, errkind.NameLoadCosi)
	}
	return i, err
}

// imageTime limits the wait of KnownImage for the metadata of an image.
const imageTime = 30 * time.Second

// KnownImage returns c, and replaces an ignored image hash if the image is the one that the
// host runs, at another URL. It ignores an image that it cannot open: the operation will
// report why.
func (d *Disks) KnownImage(ctx context.Context, c *hostconfig.Config) (*hostconfig.Config, error) {
	want := c.Spec().Image
	if _, busy := d.Runner.Active(); busy || want == nil || want.SHA384 != hostconfig.HashIgnored {
		return c, nil
	}
	st, err := d.State(ctx)
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
	i, err := d.Open(ctx, Source{
		URL: string(want.URL), Digest: string(hostconfig.HashIgnored), Relaxed: change.Flag(c, "relaxedCosiValidation"), Meter: fetch.NewMeter(change.Number(c, paramRate), change.Number(c, paramBudget), 0),
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
