package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type selfHistoryOptions struct {
	app   *app
	limit int32
}

func newSelfHistoryCommand(a *app, run func(context.Context, *selfHistoryOptions) error) *cobra.Command {
	o := &selfHistoryOptions{app: a}
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List what was done to Trident on this host, newest first",
		Example: `  trident self history
  trident self history --limit 5 --output json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	cmd.Flags().Int32Var(&o.limit, "limit", 50, "how many entries at most")
	return cmd
}

func selfHistory(ctx context.Context, o *selfHistoryOptions) error {
	return o.app.ask(ctx, "ask for the history of Trident", func(c *client.Client) error {
		all, err := c.History(ctx, o.limit)
		if err != nil {
			return err
		}
		return o.app.show(&selfv1.HistoryResponse{Entries: all}, func(w io.Writer) {
			fmt.Fprintln(w, "OPERATION\tBEGAN\tWHAT\tFROM\tTO\tEND")
			for _, e := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", line(e.GetOperationId()), when(e.GetStartTime()),
					line(e.GetKind()), line(e.GetFromVersion()), line(e.GetToVersion()), endText(e))
			}
		})
	})
}

func endText(e *client.HistoryEntry) string {
	text := endPhase(e.GetPhase(), e.GetFailure())
	if f := e.GetFailure(); f != nil {
		text += ": " + line(f.GetMessage())
	}
	return text
}

func outcomeText(e *client.HistoryEntry) string {
	text := fmt.Sprintf("%s %s %s", line(e.GetOperationId()), line(e.GetKind()), endText(e))
	if e.GetEvidence() != "" {
		text += " (evidence in " + line(e.GetEvidence()) + ")"
	}
	return text
}

// phase is a phase in the words of people: PHASE_DONE is done.
func phase(p fmt.Stringer) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_"))
}

// endPhase is phase, but an operation that was undone because it failed is called
// failed: that is what a person looks for.
func endPhase(p operationsv1.Phase, f *operationsv1.Failure) string {
	if p == operationsv1.Phase_PHASE_UNDONE && f != nil && f.GetReason() != string(errkind.Cancelled) {
		return "failed"
	}
	return phase(p)
}

// when is a time to the second, in UTC, as everywhere on a host.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}
