package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/proto/client"
)

type operationWatchOptions struct {
	followOptions
	id    string
	after uint64
}

func newOperationWatchCommand(a *app, run func(context.Context, *operationWatchOptions) error) *cobra.Command {
	o := &operationWatchOptions{followOptions: followOptions{app: a}}
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Show how an operation goes on until it has ended",
		Long: `Watch shows the events of an operation, over restarts of the daemon and reboots
of the host, and ends as the operation ends.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().Uint64Var(&o.after, "after", 0, "leave out the events up to this sequence number")
	cmd.Flags().BoolVar(&o.cancelOnInterrupt, "cancel-on-interrupt", false, "cancel the operation when interrupted, and wait until it has taken back what it did")
	return cmd
}

func operationWatch(ctx context.Context, o *operationWatchOptions) error {
	return o.follow(ctx, "watch operation "+o.id, false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return c.Watch(ctx, o.id, o.after, fn)
	})
}
