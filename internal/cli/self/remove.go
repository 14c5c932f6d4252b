package self

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

type removeOptions struct {
	app     *command.App
	version string
}

func newRemoveCommand(a *command.App, run func(context.Context, *removeOptions) error) *cobra.Command {
	o := &removeOptions{app: a}
	return &cobra.Command{
		Use:               "remove VERSION",
		Short:             "Delete a staged image",
		Example:           "  trident self remove 2.0.0",
		Long:              "Remove deletes the image of a version. The daemon refuses to remove the active and\nthe previous version.",
		Args:              command.Exactly("VERSION"),
		ValidArgsFunction: a.CompleteWith(stagedVersions),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.version = args[0]
			return run(cmd.Context(), o)
		},
	}
}

func remove(ctx context.Context, o *removeOptions) error {
	return o.app.Ask(ctx, fmt.Sprintf("remove Trident %s", o.version), func(c *client.Client) error {
		if err := c.Remove(ctx, o.version); err != nil {
			return err
		}
		o.app.Say("The image of Trident %s is deleted.", terminal.Line(o.version))
		return nil
	})
}
