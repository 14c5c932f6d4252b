package self

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type activateOptions struct {
	command.FollowOptions
	trialOptions
	version string
}

func newActivateCommand(a *command.App, run func(context.Context, *activateOptions) error) *cobra.Command {
	o := &activateOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "activate [VERSION]",
		Short: "Bring a staged version into service",
		Example: `  trident self activate
  trident self activate 2.0.0 --soak 1m`,
		Long: `Activate tries a staged version, by default the newest, and keeps it only if it
passes the trial.`,
		Args:              command.AtMostOne,
		ValidArgsFunction: a.CompleteWith(stagedVersions),
		RunE:              command.Run(run, o, &o.version),
	}
	o.FollowOptions.AddFlags(cmd.Flags())
	o.trialOptions.addFlags(cmd.Flags())
	return cmd
}

func activate(ctx context.Context, o *activateOptions) error {
	return o.Follow(ctx, "activate Trident", false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Activate(ctx, o.version, o.message(), fn)
	})
}
