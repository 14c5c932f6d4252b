package operation

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

type continueOptions struct {
	app *command.App
	id  string
}

func newContinueCommand(a *command.App, run func(context.Context, *continueOptions) error) *cobra.Command {
	o := &continueOptions{app: a}
	return &cobra.Command{
		Use:     "continue ID",
		Short:   "Continue an operation that is paused",
		Example: "  trident operation continue 20260304-050607-K3VQ7M",
		Long: `Continue has an operation go on that waits at a pause, as after "trident self upgrade
--pause-before activate". It does not wait for the end: "trident operation watch" does.`,
		Args:              command.Exactly("ID"),
		ValidArgsFunction: a.CompleteWith(operationIDs),
		RunE:              command.Run(run, o, &o.id),
	}
}

func goOn(ctx context.Context, o *continueOptions) error {
	return command.Print(ctx, o.app, "continue operation "+o.id, func(c *client.Client) (*client.Operation, error) { return c.Continue(ctx, o.id) }, func(w *terminal.Table, op *client.Operation) {
		w.Line("Operation %s goes on.", op.GetId())
	})
}
