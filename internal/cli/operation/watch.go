package operation

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/proto/client"
)

type watchOptions struct {
	command.FollowOptions
	id     string
	after  uint64
	events bool
}

func newWatchCommand(a *command.App, run func(context.Context, *watchOptions) error) *cobra.Command {
	o := &watchOptions{FollowOptions: command.FollowOptions{App: a}}
	cmd := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Show the progress of an operation until its end",
		Example: `  trident operation watch
  trident operation watch 20260304-050607-K3VQ7M --events`,
		Long: `Watch shows the events of an operation, by default the last one, through restarts of
the daemon and reboots of the host. Its exit code is that of the operation. With
--events it prints them as JSON for programs: one trident.operations.v1.Event per
line, as it happens.`,
		Args:              command.AtMostOne,
		ValidArgsFunction: a.CompleteWith(operationIDs),
		RunE:              command.Run(run, o, &o.id),
	}
	cmd.Flags().Uint64Var(&o.after, "after", 0, "begin after the event with this sequence number")
	cmd.Flags().BoolVar(&o.events, "events", false, "print each event as a line of JSON, and no result")
	cmd.Flags().BoolVar(&o.CancelOnInterrupt, "cancel-on-interrupt", false, "when interrupted, cancel the operation and wait until it is undone")
	return cmd
}

func watch(ctx context.Context, o *watchOptions) error {
	o.Silent = o.events
	if o.events {
		o.App.KeepForEvents()
	}
	var broken error // of the first line that could not be printed
	err := o.Follow(ctx, "watch "+operationName(o.id), false, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		op, err := operationOf(ctx, c, o.id)
		if err != nil {
			return nil, err
		}
		return c.Watch(ctx, op.GetId(), o.after, func(e *client.Event) {
			if o.events && broken == nil {
				broken = o.App.PrintEvent(e)
			}
			fn(e)
		})
	})
	if broken != nil {
		err = errors.Join(err, fmt.Errorf("print events: %w", broken))
	}
	return err
}
