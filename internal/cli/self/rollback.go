package self

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type rollbackOptions struct {
	command.FollowOptions
	trialOptions
}

func newRollbackCommand(a *command.App, run func(context.Context, *rollbackOptions) error) *cobra.Command {
	o := &rollbackOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Return to the version before the active one",
		Example: `  trident self rollback
  trident self rollback --detach`,
		Long: `Rollback returns to the previous version, or to the base: the version that the
package or the OS image installed. "trident self status" shows which.`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	o.FollowOptions.AddFlags(cmd.Flags())
	o.addTimes(cmd.Flags())
	return cmd
}

func rollback(ctx context.Context, o *rollbackOptions) error {
	return o.Follow(ctx, "roll Trident back", false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Rollback(ctx, o.message(), fn)
	})
}
