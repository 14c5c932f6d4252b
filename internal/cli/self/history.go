package self

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type historyOptions struct {
	app   *command.App
	limit int32
}

func newHistoryCommand(a *command.App, run func(context.Context, *historyOptions) error) *cobra.Command {
	o := &historyOptions{app: a}
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the operations on Trident itself, newest first",
		Example: `  trident self history
  trident self history --limit 5 --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	cmd.Flags().Int32Var(&o.limit, "limit", 50, "the most entries to list")
	return cmd
}

func history(ctx context.Context, o *historyOptions) error {
	return command.Print(ctx, o.app, "ask for the history of Trident", func(c *client.Client) (*selfv1.HistoryResponse, error) {
		all, err := c.History(ctx, o.limit)
		return &selfv1.HistoryResponse{Entries: all}, err
	}, func(w *terminal.Table, all *selfv1.HistoryResponse) {
		w.Head("OPERATION", "BEGAN", "WHAT", "FROM", "TO", "END")
		for _, e := range all.GetEntries() {
			w.Row(e.GetOperationId(), terminal.FormatTime(e.GetStartTime()), e.GetKind(), e.GetFromVersion(), e.GetToVersion(), endOf(e))
		}
	})
}

// endOf returns the result of the operation of an entry.
func endOf(e *client.HistoryEntry) terminal.Cell {
	end := terminal.StateCell(terminal.EndPhase(e.GetPhase(), e.GetFailure()))
	if f := e.GetFailure(); f != nil {
		end.Text += ": " + f.GetMessage()
	}
	return end
}

func outcomeOf(e *client.HistoryEntry) terminal.Cell {
	end := endOf(e)
	end.Text = fmt.Sprintf("%s %s %s", e.GetOperationId(), e.GetKind(), end.Text)
	if e.GetEvidence() != "" {
		end.Text += " (evidence in " + e.GetEvidence() + ")"
	}
	return end
}
