package feed

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
)

type rotateOptions struct {
	place
	roles     []string
	rootKeys  []string
	threshold int
	validity  publish.Validity
}

const rotateLong = `Rotate makes new keys for roles: root, timestamp, snapshot, targets, or channels.
Without a role it makes a new root with the same keys, which expires later. The new
keys count after the next "trident feed publish". Hosts need nothing: they follow the
roots from the one that they have, and every root stays in the feed.

A new root is signed by the old and the new root keys. If they are kept elsewhere,
see "trident feed sign"; until then the feed stays as it is. The old private keys stay
in the folder of the keys; delete them after publish.`

func newRotateCommand(a *command.App, run func(context.Context, *rotateOptions) error) *cobra.Command {
	o := &rotateOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "rotate [ROLE...] --feed DIR --keys DIR",
		Short: "Replace keys, or make a new root",
		Long:  rotateLong,
		Example: `  trident feed rotate timestamp stable --feed feed --keys keys
  trident feed rotate root --feed feed --keys keys --root-key new-root.pub`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.roles = args
			return run(cmd.Context(), o)
		},
	}
	o.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.rootKeys, "root-key", nil, "the public key, PEM, of a new root key that is kept elsewhere; may be repeated")
	flags.IntVar(&o.threshold, "root-threshold", 0, "how many of the new root keys have to sign; 0 means as many as before")
	addValidity(flags, &o.validity, "root")
	return cmd
}

// rotated is the result of rotate and of sign. Its JSON form is documented by docs/cli.md.
type rotated struct {
	Waiting *waiting `json:"waiting"`

	place, done string
}

func rotate(_ context.Context, o *rotateOptions) error {
	keys, err := readPublicKeys(o.rootKeys)
	if err != nil {
		return err
	}
	r := &rotated{place: o.flags(), done: "The new keys and roots count after: trident feed publish"}
	return r.show(o.place, func(p *publish.Publisher) error {
		return p.Rotate(publish.RotateOptions{Roles: o.roles, RootKeys: keys, Threshold: o.threshold, Validity: o.validity})
	})
}

// show shows which root waits for signatures after a change of the feed at a place.
func (r *rotated) show(at place, change func(*publish.Publisher) error) error {
	err := at.with(func(p *publish.Publisher) error {
		err := change(p)
		if err == nil {
			r.Waiting, err = p.Waiting()
		}
		return err
	})
	if err != nil {
		return err
	}
	return at.app.Show(r, r.write)
}

func (r *rotated) write(w *terminal.Table) {
	if r.Waiting == nil {
		w.Line("%s", r.done)
		return
	}
	writeWaiting(w, r.Waiting, r.place)
}
