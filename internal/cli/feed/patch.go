package feed

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
)

type patchOptions struct {
	place
	publish.PatchOptions
}

const patchLong = `Patch makes patches: a host that has the image of an earlier version fetches a patch
instead of the image. Patch makes them to the newest version of each channel and
architecture, or to --to, from the versions before it, and proves each. It skips a
patch that is not smaller than the image. Hosts see the patches after "trident feed
publish".`

func newPatchCommand(a *command.App, run func(context.Context, *patchOptions) error) *cobra.Command {
	o := &patchOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:     "patch --feed DIR --keys DIR",
		Short:   "Make patches from earlier versions",
		Long:    patchLong,
		Example: "  trident feed patch --feed feed --keys keys --last 3",
		Args:    command.Exactly(),
		RunE:    command.Run(run, o),
	}
	o.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Channel, "channel", "", "the channel; default all")
	flags.StringVar(&o.To, "to", "", "the version that the patches make; default the newest")
	flags.IntVar(&o.Last, "last", 3, "from how many versions before it")
	return cmd
}

// patchResult is the result of patch. Its JSON form is documented by docs/cli.md.
type patchResult struct {
	Patches []publish.Patched `json:"patches"`
}

func makePatches(ctx context.Context, o *patchOptions) error {
	r := &patchResult{}
	err := o.with(func(p *publish.Publisher) (err error) {
		progress := terminal.NewProgress(&o.app.Streams)
		defer progress.End()
		label := "make patch"
		r.Patches, err = p.Patch(ctx, o.PatchOptions, func(path string) { label = "make " + path },
			func(done, total int64) { progress.Bytes(label, done, total) })
		return command.Interrupted(ctx, err)
	})
	if err != nil {
		return err
	}
	return o.app.Show(r, r.write)
}

func (r *patchResult) write(w *terminal.Table) {
	if len(r.Patches) == 0 {
		w.Line("No version has one before it in its channel, so there is nothing to make.")
		return
	}
	w.Head("FROM", "TO", "SIZE", "OF THE IMAGE", "FILE", "")
	for _, p := range r.Patches {
		note := "made"
		switch {
		case p.Skipped != "":
			note = "skipped: " + p.Skipped
		case !p.Made:
			note = "is there already"
		}
		w.Row(p.From, p.To, bytesize.Format(p.Size), part(p.Size, p.ImageSize), p.Path, note)
	}
}
