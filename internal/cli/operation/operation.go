// Package operation has the commands below trident operation: they list, show, watch,
// continue and cancel operations.
package operation

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func Command(a *command.App) *cobra.Command {
	return command.Group("operation", "List, show, watch, continue and cancel operations",
		newListCommand(a, list),
		newShowCommand(a, show),
		newWatchCommand(a, watch),
		newContinueCommand(a, goOn),
		newCancelCommand(a, cancel),
	)
}

type showOptions struct {
	app *command.App
	id  string
}

func newShowCommand(a *command.App, run func(context.Context, *showOptions) error) *cobra.Command {
	o := &showOptions{app: a}
	return &cobra.Command{
		Use:   "show [ID]",
		Short: "Show one operation and its steps, by default the last one",
		Example: `  trident operation show
  trident operation show 20260304-050607-K3VQ7M --output json`,
		Args:              command.AtMostOne,
		ValidArgsFunction: a.CompleteWith(operationIDs),
		RunE:              command.Run(run, o, &o.id),
	}
}

func show(ctx context.Context, o *showOptions) error {
	return command.Print(ctx, o.app, "show "+operationName(o.id), func(c *client.Client) (*client.Operation, error) { return operationOf(ctx, c, o.id) }, writeOperation)
}

// operationName returns the name of an operation for errors.
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

// stepState returns the state of a step. The step that failed has the state "failed", also
// when it is undone, because users search for it.
func stepState(op *client.Operation, s *operationsv1.Step) terminal.Cell {
	state := strings.ToLower(strings.TrimPrefix(s.GetState().String(), "STEP_STATE_"))
	if f := op.GetFailure(); f != nil && f.GetReason() != string(errkind.Cancelled) && s.GetName() == failedStep(op) {
		state = "failed"
	}
	return terminal.StateCell(state)
}

// failedStep returns the step at which an operation failed: the last one that had begun.
func failedStep(op *client.Operation) string {
	name := ""
	for _, s := range op.GetSteps() {
		if s.GetState() == operationsv1.StepState_STEP_STATE_PENDING {
			break
		}
		name = s.GetName()
	}
	return name
}

func writeOperation(w *terminal.Table, op *client.Operation) {
	w.Field("Operation", "%s", op.GetId())
	w.Field("What", "%s (%s)", op.GetSummary(), op.GetKind())
	w.FieldOf("Phase", terminal.PhaseOf(op))
	if op.GetWaiting() != "" {
		w.Field("Waiting for", "%s", op.GetWaiting())
	}
	terminal.WriteHalt(w, op)
	w.Field("Began", "%s", terminal.FormatTime(op.GetCreateTime()))
	if op.GetAskedBy() != "" {
		w.Field("Asked by", "%s", op.GetAskedBy())
	}
	w.Field("Last event", "%s, number %d", terminal.FormatTime(op.GetUpdateTime()), op.GetLastSequence())
	if f := op.GetFailure(); f != nil {
		w.Field("Failure", "%s (%s)", f.GetMessage(), f.GetReason())
		if f.GetHint() != "" {
			w.Field("Hint", "%s", f.GetHint())
		}
	}
	if len(op.GetSteps()) > 0 {
		w.Head("STEP", "STATE")
	}
	for _, s := range op.GetSteps() {
		if s.GetState() == operationsv1.StepState_STEP_STATE_PENDING && hasEnded(op) {
			continue // it was never begun, and will not be
		}
		w.Row(s.GetName(), stepState(op, s))
	}
}

func hasEnded(op *client.Operation) bool {
	switch op.GetPhase() {
	case operationsv1.Phase_PHASE_DONE, operationsv1.Phase_PHASE_UNDONE, operationsv1.Phase_PHASE_STUCK:
		return true
	}
	return false
}

func operationIDs(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Operations(ctx, 20, false)
	var words []string
	for _, op := range all {
		words = append(words, terminal.Line(op.GetId())+"\t"+terminal.Line(op.GetSummary()))
	}
	return words, err
}
