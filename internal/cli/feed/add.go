package feed

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	format "github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/feed/publish"
	"github.com/trident-project/trident/internal/trust"
)

type addOptions struct {
	place
	images     []string
	channel    string
	newChannel bool
	after      string
	wave       span
	waveFirst  string
	trust      []string
}

const addLong = `Add copies images of Trident into a channel. It reads the whole image and refuses one
that is damaged, that is of another extension, or that has a version of which the
channel has another image. With --trust it also refuses an image that none of these
certificates has signed.

Hosts see the image after "trident feed publish". With --wave not all see it at once:
a part, --wave-first, at the time of add, and evenly more until the time span is over.
Add an image again to change its wave or --after.`

func newAddCommand(a *command.App, run func(context.Context, *addOptions) error) *cobra.Command {
	o := &addOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "add IMAGE... --channel NAME --feed DIR --keys DIR",
		Short: "Add images to a channel",
		Long:  addLong,
		Example: `  trident feed add trident-2.0.0.raw --channel stable --feed feed --keys keys --trust signer.crt
  trident feed add trident-2.0.0.raw --channel stable --feed feed --keys keys --wave 7d --wave-first 1%`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.UsageError(cmd, fmt.Errorf("IMAGE is missing"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.images = args
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.channel, "channel", "", "the channel")
	flags.BoolVar(&o.newChannel, "new-channel", false, "make the channel if the feed does not have it")
	flags.StringVar(&o.after, "after", "", "the version that a host must run at least before it may take the image")
	flags.Var(&o.wave, "wave", "in which time all hosts see the image; 0 means at once")
	flags.StringVar(&o.waveFirst, "wave-first", "1%", "the part of the hosts that sees the image at once, with --wave")
	flags.StringArrayVar(&o.trust, "trust", nil, "a certificate in PEM, or a folder of *.crt; may be repeated")
	command.Required(cmd, "channel")
	return cmd
}

// addResult is the result of add. Its JSON form is documented by docs/cli.md.
type addResult struct {
	Channel string          `json:"channel"`
	Images  []publish.Added `json:"images"`
}

func add(ctx context.Context, o *addOptions) error {
	first, err := hostsOf(o.waveFirst)
	if err != nil {
		return err
	}
	now, err := o.now()
	if err != nil {
		return err
	}
	opts := publish.AddOptions{Channel: o.channel, NewChannel: o.newChannel, After: o.after}
	if o.wave > 0 {
		begin := now.UTC().Truncate(1e9)
		opts.Wave = &format.Wave{Begin: begin, End: begin.Add(o.wave.duration()), First: first}
	}
	if len(o.trust) > 0 {
		policy, err := trust.LoadFiles(o.trust...)
		if err != nil {
			return err
		}
		opts.Trust = &policy
	}
	r := &addResult{Channel: o.channel, Images: []publish.Added{}}
	err = o.with(func(p *publish.Publisher) error {
		progress := terminal.NewProgress(&o.app.Streams)
		defer progress.End()
		for _, file := range o.images {
			added, err := p.Add(ctx, file, opts, func(done, total int64) { progress.Bytes("verify "+terminal.Line(file), done, total) })
			if err != nil {
				return command.Interrupted(ctx, err)
			}
			r.Images = append(r.Images, added)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return o.app.Show(r, r.write)
}

// hostsOf reads a part of the hosts, in hosts of 10,000: 1% is 100.
func hostsOf(text string) (int, error) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || math.IsNaN(percent) || percent < 0 || percent > 100 {
		return 0, errkind.Errorf(errkind.Invalid, "--wave-first: %q is not a part like 1%% or 0.5%%", text)
	}
	return int(math.Round(percent * 100)), nil
}

func (r *addResult) write(w *terminal.Table) {
	w.Head("VERSION", "ARCHITECTURE", "SIZE", "FILE", "")
	for _, i := range r.Images {
		note := "added"
		if !i.Changed {
			note = "is there already"
		}
		if !i.Signed {
			note += "; not signed: no host takes it"
		}
		w.Row(i.Release.Version, i.Release.Architecture, bytesize.Format(i.Size), i.Path, note)
	}
	w.Line("")
	w.Line("Hosts see the images of channel %s after: trident feed publish", r.Channel)
}
