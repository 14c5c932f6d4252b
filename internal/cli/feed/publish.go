package feed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
)

type publishOptions struct {
	place
	validity publish.Validity
}

const publishLong = `Publish makes hosts see what add, patch, withdraw and rotate have changed. It signs
the metadata, SHA256SUMS for systemd-sysupdate, and replaces both so that a host
finds the feed before or the new one, each whole, also after a crash.

Metadata expires, so that nobody can show hosts an old feed for ever. Run publish
regularly, also without a change: with the defaults at least every week.`

func newPublishCommand(a *command.App, run func(context.Context, *publishOptions) error) *cobra.Command {
	o := &publishOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "publish --feed DIR --keys DIR",
		Short: "Make hosts see the changes",
		Long:  publishLong,
		Example: `  trident feed publish --feed feed --keys keys
  trident feed publish --feed feed --keys keys --timestamp-valid 1d`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	o.addFlags(cmd)
	addValidity(cmd.Flags(), &o.validity, "timestamp", "snapshot", "targets")
	return cmd
}

// published is the result of publish. Its JSON form is documented by docs/cli.md.
type published struct {
	publish.Published
}

func publishFeed(ctx context.Context, o *publishOptions) error {
	r := &published{}
	err := o.with(func(p *publish.Publisher) (err error) {
		r.Published, err = p.Publish(ctx, o.validity)
		return command.Interrupted(ctx, err)
	})
	if err != nil {
		return err
	}
	return o.app.Show(r, r.write)
}

func (r *published) write(w *terminal.Table) {
	for _, name := range slices.Sorted(maps.Keys(r.Images)) {
		w.Field("Channel", "%s, images: %d", name, r.Images[name])
	}
	w.Field("Publish again", "before %s", r.Expires.Format(time.RFC3339))
	for _, path := range r.Deleted {
		w.Field("Deleted", "%s", path)
	}
	writeNotes(w, r.Notes)
}

func writeNotes(w *terminal.Table, notes []string) {
	for _, note := range notes {
		w.Field("Note", "%s", note)
	}
}

// part returns a part in percent.
func part(size, of int64) string {
	if of <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", float64(size)*100/float64(of))
}
