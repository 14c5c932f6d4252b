package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type selfUpgradeOptions struct {
	command.FollowOptions
	sourceOptions
	trialOptions
}

const selfUpgradeLong = `Upgrade replaces the running version of Trident: the daemon fetches an image, checks
its signature and content, and tries the new version. If the new version passes the
trial, Trident keeps it. Otherwise Trident rolls back and blocks the new version.

` + sourceLong + `

An interrupt ends this command, and the operation goes on, unless
--cancel-on-interrupt is given or a part of the file is not sent yet.`

func newSelfUpgradeCommand(a *command.App, run func(context.Context, *selfUpgradeOptions) error) *cobra.Command {
	o := &selfUpgradeOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "upgrade SOURCE",
		Short: "Bring a new version of Trident into service",
		Long:  selfUpgradeLong,
		Example: `  trident self upgrade https://example.com/trident-2.0.0.raw
  trident self upgrade ./trident-2.0.0.raw --soak 1m --deadline 5m`,
		Args: command.Exactly("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.source = args[0]
			return run(cmd.Context(), o)
		},
	}
	o.FollowOptions.AddFlags(cmd.Flags())
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
	return o.Follow(ctx, "upgrade Trident", source.Upload != nil, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Upgrade(ctx, source, o.message(), fn)
	})
}
