package self

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

func newRemoveCommand(a *command.App, run func(context.Context, *versionOptions) error) *cobra.Command {
	return newVersionCommand(a, &cobra.Command{
		Use:     "remove VERSION",
		Short:   "Delete a staged image",
		Example: "  trident self remove 2.0.0",
		Long:    "Remove deletes the image of a version. The daemon refuses to remove the active and\nthe previous version.",
	}, stagedVersions, run)
}

func remove(ctx context.Context, o *versionOptions) error {
	return o.app.Ask(ctx, fmt.Sprintf("remove Trident %s", o.version), func(c *client.Client) error {
		if err := c.Remove(ctx, o.version); err != nil {
			return err
		}
		o.app.Say("The image of Trident %s is deleted.", terminal.Line(o.version))
		return nil
	})
}
