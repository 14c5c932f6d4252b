package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type selfUpgradeOptions struct {
	followOptions
	sourceOptions
	trialOptions
}

const selfUpgradeLong = `Upgrade brings another version of Trident into service: the daemon gets the
image, checks signature and content, tries the new version, and keeps it only if
it proves itself; else the old one is put back, and the new one blocked.

` + sourceLong + `

An interrupt leaves the operation running, unless --cancel-on-interrupt is given
or the file was not sent whole yet.`

func newSelfUpgradeCommand(a *app, run func(context.Context, *selfUpgradeOptions) error) *cobra.Command {
	o := &selfUpgradeOptions{followOptions: followOptions{app: a}}
	cmd := &cobra.Command{
		Use:   "upgrade SOURCE",
		Short: "Bring a new version of Trident into service",
		Long:  selfUpgradeLong,
		Example: `  trident self upgrade https://example.com/trident-2.0.0.raw
  trident self upgrade ./trident-2.0.0.raw --soak 1m --deadline 5m`,
		Args: exactly("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.source = args[0]
			return run(cmd.Context(), o)
		},
	}
	o.followOptions.addFlags(cmd.Flags())
	o.sourceOptions.addFlags(cmd.Flags())
	o.trialOptions.addFlags(cmd.Flags())
	return cmd
}

func selfUpgrade(ctx context.Context, o *selfUpgradeOptions) (err error) {
	source, done, err := o.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return o.follow(ctx, "upgrade Trident", source.Upload != nil, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Upgrade(ctx, source, o.message(), fn)
	})
}
