package self

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type upgradeOptions struct {
	command.FollowOptions
	sourceOptions
	trialOptions
}

const upgradeLong = `Upgrade replaces the running version of Trident: the daemon fetches an image, checks
its signature and content, and tries the new version. If the new version passes the
trial, Trident keeps it. Otherwise Trident rolls back and blocks the new version.

` + sourceLong + `

An interrupt ends this command, and the operation goes on, unless
--cancel-on-interrupt is given or a part of the file is not sent yet.`

func newUpgradeCommand(a *command.App, run func(context.Context, *upgradeOptions) error) *cobra.Command {
	o := &upgradeOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "upgrade [SOURCE]",
		Short: "Activate a new version of Trident",
		Long:  upgradeLong,
		Example: `  trident self upgrade https://example.com/trident-2.0.0.raw
  trident self upgrade ./trident-2.0.0.raw --soak 1m --deadline 5m
  trident self upgrade --from-feed`,
		Args: o.args,
		RunE: command.Run(run, o, &o.source),
	}
	o.FollowOptions.AddFlags(cmd.Flags())
	o.sourceOptions.addFlags(cmd.Flags())
	o.trialOptions.addFlags(cmd.Flags())
	return cmd
}

func upgrade(ctx context.Context, o *upgradeOptions) error {
	return o.follow(ctx, &o.FollowOptions, "upgrade Trident", func(ctx context.Context, c *client.Client, source client.Source, fn func(*client.Event)) (*client.Operation, error) {
		return c.Upgrade(ctx, source, o.message(), fn)
	})
}
