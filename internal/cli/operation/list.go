package operation

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

type listOptions struct {
	app       *command.App
	limit     int32
	unsettled bool
}

func newListCommand(a *command.App, run func(context.Context, *listOptions) error) *cobra.Command {
	o := &listOptions{app: a}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List operations, newest first",
		Example: `  trident operation list
  trident operation list --unsettled
  trident operation list --limit 5 --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	cmd.Flags().Int32Var(&o.limit, "limit", 50, "the most operations to list")
	cmd.Flags().BoolVar(&o.unsettled, "unsettled", false, "only operations that have not ended")
	return cmd
}

func list(ctx context.Context, o *listOptions) error {
	return command.Print(ctx, o.app, "list operations", func(c *client.Client) (*operationsv1.ListResponse, error) {
		all, err := c.Operations(ctx, o.limit, o.unsettled)
		return &operationsv1.ListResponse{Operations: all}, err
	}, func(w *terminal.Table, all *operationsv1.ListResponse) {
		w.Head("OPERATION", "BEGAN", "PHASE", "STEP", "WHAT")
		for _, op := range all.GetOperations() {
			w.Row(op.GetId(), terminal.FormatTime(op.GetCreateTime()), terminal.PhaseOf(op), op.GetStep(), op.GetSummary())
		}
	})
}
