package self

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

func newUnblockCommand(a *command.App, run func(context.Context, *versionOptions) error) *cobra.Command {
	return newVersionCommand(a, &cobra.Command{
		Use:     "unblock VERSION",
		Short:   "Allow a version again that failed on this host",
		Example: "  trident self unblock 2.0.0",
	}, blockedVersions, run)
}

func unblock(ctx context.Context, o *versionOptions) error {
	return o.app.Ask(ctx, fmt.Sprintf("unblock Trident %s", o.version), func(c *client.Client) error {
		if err := c.Unblock(ctx, o.version); err != nil {
			return err
		}
		o.app.Say("Trident %s is not blocked any more.", terminal.Line(o.version))
		return nil
	})
}
