package self

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

type unblockOptions struct {
	app     *command.App
	version string
}

func newUnblockCommand(a *command.App, run func(context.Context, *unblockOptions) error) *cobra.Command {
	o := &unblockOptions{app: a}
	return &cobra.Command{
		Use:               "unblock VERSION",
		Short:             "Allow a version again that failed on this host",
		Example:           "  trident self unblock 2.0.0",
		Args:              command.Exactly("VERSION"),
		ValidArgsFunction: a.CompleteWith(blockedVersions),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.version = args[0]
			return run(cmd.Context(), o)
		},
	}
}

func unblock(ctx context.Context, o *unblockOptions) error {
	return o.app.Ask(ctx, fmt.Sprintf("unblock Trident %s", o.version), func(c *client.Client) error {
		if err := c.Unblock(ctx, o.version); err != nil {
			return err
		}
		o.app.Say("Trident %s is not blocked any more.", terminal.Line(o.version))
		return nil
	})
}
