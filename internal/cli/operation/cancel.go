package operation

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

type cancelOptions struct {
	app *command.App
	id  string
}

func newCancelCommand(a *command.App, run func(context.Context, *cancelOptions) error) *cobra.Command {
	o := &cancelOptions{app: a}
	return &cobra.Command{
		Use:     "cancel ID",
		Short:   "Cancel an operation, which undoes its steps",
		Example: "  trident operation cancel 20260304-050607-K3VQ7M",
		Long: `Cancel asks an operation to stop and to undo its steps. It does not wait for the
end: "trident operation watch" does.`,
		Args:              command.Exactly("ID"),
		ValidArgsFunction: a.CompleteWith(operationIDs),
		RunE:              command.Run(run, o, &o.id),
	}
}

func cancel(ctx context.Context, o *cancelOptions) error {
	return command.Print(ctx, o.app, "cancel operation "+o.id, func(c *client.Client) (*client.Operation, error) { return c.Cancel(ctx, o.id) }, func(w *terminal.Table, op *client.Operation) {
		w.Line("Operation %s is cancelled and undoes its steps.", op.GetId())
	})
}
