package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func newOperationCommand(a *app) *cobra.Command {
	return newGroup("operation", "Look at what Trident does to the host",
		newOperationListCommand(a, operationList),
		newOperationShowCommand(a, operationShow),
		newOperationWatchCommand(a, operationWatch),
		newOperationCancelCommand(a, operationCancel),
	)
}

type operationShowOptions struct {
	app *app
	id  string
}

func newOperationShowCommand(a *app, run func(context.Context, *operationShowOptions) error) *cobra.Command {
	o := &operationShowOptions{app: a}
	return &cobra.Command{
		Use:   "show [ID]",
		Short: "Show one operation and its steps; the last one unless ID is given",
		Example: `  trident operation show
  trident operation show 20260304-050607-K3VQ7M --output json`,
		Args:              atMostOne,
		ValidArgsFunction: a.completeWith(operationIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = argument(args, "")
			return run(cmd.Context(), o)
		},
	}
}

func operationShow(ctx context.Context, o *operationShowOptions) error {
	return o.app.ask(ctx, "show "+operationName(o.id), func(c *client.Client) error {
		op, err := operationOf(ctx, c, o.id)
		if err != nil {
			return err
		}
		return o.app.show(op, func(w io.Writer) { writeOperation(w, op) })
	})
}

// operationName is how errors name the operation that the caller asked for.
func operationName(id string) string {
	if id == "" {
		return "the last operation"
	}
	return "operation " + id
}

// operationOf returns the operation id, or the last one if id is empty.
func operationOf(ctx context.Context, c *client.Client, id string) (*client.Operation, error) {
	if id != "" {
		return c.Operation(ctx, id)
	}
	all, err := c.Operations(ctx, 1, false)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errkind.Errorf(errkind.NotFound, "this host has no operation yet")
	}
	return c.Operation(ctx, all[0].GetId())
}

// haltHint is what to do about a halt.
func haltHint(h *operationsv1.Halt) string {
	hint := "The operation goes on by itself, within half a minute, once that is over."
	if does := h.GetCause().GetHint(); does != "" {
		hint = "To do: " + does + ". " + hint
	}
	return hint
}

// phaseOf is the phase of an operation, and whether it is halted.
func phaseOf(op *client.Operation) string {
	text := endPhase(op.GetPhase(), op.GetFailure())
	if op.GetHalt() != nil {
		text += ", halted"
	}
	return text
}

func writeOperation(w io.Writer, op *client.Operation) {
	fmt.Fprintf(w, "Operation\t%s\n", line(op.GetId()))
	fmt.Fprintf(w, "What\t%s (%s)\n", line(op.GetSummary()), line(op.GetKind()))
	fmt.Fprintf(w, "Phase\t%s\n", phaseOf(op))
	if op.GetWaiting() != "" {
		fmt.Fprintf(w, "Waiting for\t%s\n", line(op.GetWaiting()))
	}
	if h := op.GetHalt(); h != nil {
		fmt.Fprintf(w, "Halted\tsince %s: %s\n", when(h.GetSince()), line(h.GetCause().GetMessage()))
		fmt.Fprintf(w, "Hint\t%s\n", line(haltHint(h)))
	}
	fmt.Fprintf(w, "Began\t%s\n", when(op.GetCreateTime()))
	fmt.Fprintf(w, "Last event\t%s, number %d\n", when(op.GetUpdateTime()), op.GetLastSequence())
	if f := op.GetFailure(); f != nil {
		fmt.Fprintf(w, "Failure\t%s (%s)\n", line(f.GetMessage()), line(f.GetReason()))
		if f.GetHint() != "" {
			fmt.Fprintf(w, "Hint\t%s\n", line(f.GetHint()))
		}
	}
	if len(op.GetSteps()) > 0 {
		fmt.Fprintln(w, "\nSTEP\tSTATE")
	}
	for _, s := range op.GetSteps() {
		fmt.Fprintf(w, "%s\t%s\n", line(s.GetName()), strings.ToLower(strings.TrimPrefix(s.GetState().String(), "STEP_STATE_")))
	}
}
