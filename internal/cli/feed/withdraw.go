package feed

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
)

type withdrawOptions struct {
	place
	version string
	channel string
}

const withdrawLong = `Withdraw takes a version out of a channel, or out of all channels. After the next
"trident feed publish" no host takes it, and its files are deleted. A host that runs
the version keeps it, because hosts never take an older version by themselves:
publish a newer one.`

func newWithdrawCommand(a *command.App, run func(context.Context, *withdrawOptions) error) *cobra.Command {
	o := &withdrawOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:     "withdraw VERSION --feed DIR --keys DIR",
		Short:   "Take a version out of the feed",
		Long:    withdrawLong,
		Example: "  trident feed withdraw 2.0.0 --feed feed --keys keys",
		Args:    command.Exactly("VERSION"),
		RunE:    command.Run(run, o, &o.version),
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.channel, "channel", "", "the channel; default all")
	return cmd
}

// withdrawn is the result of withdraw. Its JSON form is documented by docs/cli.md.
type withdrawn struct {
	Version string   `json:"version"`
	Images  []string `json:"images"`
}

func withdraw(_ context.Context, o *withdrawOptions) error {
	r := &withdrawn{Version: o.version}
	err := o.with(func(p *publish.Publisher) (err error) {
		r.Images, err = p.Withdraw(o.channel, o.version)
		return err
	})
	if err != nil {
		return err
	}
	return o.app.Show(r, r.write)
}

func (r *withdrawn) write(w *terminal.Table) {
	for _, path := range r.Images {
		w.Field("Withdrawn", "%s", path)
	}
	w.Line("")
	w.Line("Hosts still see the version, until: trident feed publish")
}
