package self

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type stageOptions struct {
	command.FollowOptions
	sourceOptions
	allowDowngrade bool
}

const stageLong = `Stage has the daemon fetch an image, check it and store it for activate. The running
version does not change.

` + sourceLong

func newStageCommand(a *command.App, run func(context.Context, *stageOptions) error) *cobra.Command {
	o := &stageOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "stage [SOURCE]",
		Short: "Get and check a new version, and keep it for later",
		Example: `  trident self stage https://example.com/trident-2.0.0.raw
  trident self stage ./trident-2.0.0.raw
  trident self stage --from-feed --max-bytes 20M`,
		Long: stageLong,
		Args: o.args,
		RunE: command.Run(run, o, &o.source),
	}
	o.FollowOptions.AddFlags(cmd.Flags())
	o.sourceOptions.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.allowDowngrade, "allow-downgrade", false, "allow a version older than the running one")
	return cmd
}

func stage(ctx context.Context, o *stageOptions) error {
	return o.follow(ctx, &o.FollowOptions, "stage Trident", func(ctx context.Context, c *client.Client, source client.Source, fn func(*client.Event)) (*client.Operation, error) {
		return c.Stage(ctx, source, o.allowDowngrade, fn)
	})
}
