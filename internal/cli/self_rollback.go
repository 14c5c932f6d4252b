package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type selfRollbackOptions struct {
	followOptions
	trialOptions
}

func newSelfRollbackCommand(a *app, run func(context.Context, *selfRollbackOptions) error) *cobra.Command {
	o := &selfRollbackOptions{followOptions: followOptions{app: a}}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Return to the version before the active one",
		Example: `  trident self rollback
  trident self rollback --detach`,
		Long: `Rollback returns to the previous version, or to the base: the version that the
package or the OS image installed. "trident self status" shows which.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	o.followOptions.addFlags(cmd.Flags())
	o.addTimes(cmd.Flags())
	return cmd
}

func selfRollback(ctx context.Context, o *selfRollbackOptions) error {
	return o.follow(ctx, "roll Trident back", false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Rollback(ctx, o.message(), fn)
	})
}
