package feed

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
)

type initOptions struct {
	place
	channels  []string
	rootKeys  []string
	threshold int
	validity  publish.Validity
}

const initLong = `Init makes the keys of a new feed and what hosts need to trust it. Both folders must
be empty or not exist, and the keys must not be below the feed.

With --root-key the root key stays elsewhere: on a machine without a network, or in
an HSM. Init then writes the bytes that this key has to sign, and "trident feed sign"
takes the signature in. Only new keys need the root key again.

Keep a copy of the folder of the keys: without it nobody can change the feed.`

func newInitCommand(a *command.App, run func(context.Context, *initOptions) error) *cobra.Command {
	o := &initOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "init --feed DIR --keys DIR",
		Short: "Make a new feed and its keys",
		Long:  initLong,
		Example: `  trident feed init --feed feed --keys keys
  trident feed init --feed feed --keys keys --channel stable --channel beta --root-key root.pub`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	o.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.channels, "channel", []string{"stable"}, "a channel; may be repeated")
	flags.StringArrayVar(&o.rootKeys, "root-key", nil, "the public key, PEM, of a root key that is kept elsewhere; may be repeated")
	flags.IntVar(&o.threshold, "root-threshold", 1, "how many of the root keys have to sign")
	addValidity(flags, &o.validity, "root")
	return cmd
}

// initialized is the result of init. Its JSON form is documented by docs/cli.md.
type initialized struct {
	Feed     string   `json:"feed"`
	Keys     string   `json:"keys"`
	Channels []string `json:"channels"`
	Root     string   `json:"root"`
	Pubring  string   `json:"pubring"`
	Waiting  *waiting `json:"waiting"`

	place string
}

func initialize(_ context.Context, o *initOptions) (err error) {
	now, err := o.now()
	if err != nil {
		return err
	}
	keys, err := readPublicKeys(o.rootKeys)
	if err != nil {
		return err
	}
	p, err := publish.Init(o.feed, o.keys, publish.InitOptions{
		Channels: o.channels, RootKeys: keys, Threshold: o.threshold, Validity: o.validity, Now: now,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	r := &initialized{
		Feed: o.feed, Keys: o.keys, Channels: p.Channels(), place: o.flags(),
		Root: filepath.Join(o.keys, "for-hosts", "feed-root.json"), Pubring: filepath.Join(o.keys, "for-hosts", "import-pubring.gpg"),
	}
	if r.Waiting, err = p.Waiting(); err != nil {
		return err
	}
	return o.app.Show(r, r.write)
}

func (r *initialized) write(w *terminal.Table) {
	w.Field("Feed", "%s", r.Feed)
	w.Field("Keys", "%s (keep a copy; nobody else may read it)", r.Keys)
	for i, c := range r.Channels {
		name := ""
		if i == 0 {
			name = "Channels"
		}
		w.Field(name, "%s", c)
	}
	w.Field("For hosts", "%s as /etc/trident/feed-root.json", r.Root)
	w.Field("", "%s as /etc/systemd/import-pubring.gpg", r.Pubring)
	writeWaiting(w, r.Waiting, r.place)
}
