package terminal

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// RequestingReboot is upstream's text. Tests of whole systems search for it.
const RequestingReboot = "Requesting reboot"

// phase returns the name of a phase for users: "done" for PHASE_DONE.
func phase(p fmt.Stringer) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_"))
}

// EndPhase is phase, but "failed" for an operation that was undone after a failure, because
// users search for that word.
func EndPhase(p operationsv1.Phase, f *operationsv1.Failure) string {
	if p == operationsv1.Phase_PHASE_UNDONE && f != nil && f.GetReason() != string(errkind.Cancelled) {
		return "failed"
	}
	return phase(p)
}

// StateCell returns the cell of the state of an operation or a step, with a colour if a
// person has to notice it.
func StateCell(state string) Cell {
	switch state {
	case "failed", "stuck":
		return Cell{state, red}
	}
	return Cell{Text: state}
}

// WarningCell returns a cell that a person should notice.
func WarningCell(text string) Cell { return Cell{text, yellow} }

// FormatTime formats a time in UTC, to the second.
func FormatTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}

// WriteHalt writes since when and why an operation is halted, if it is.
func WriteHalt(w *Table, op *client.Operation) {
	if h := op.GetHalt(); h != nil {
		w.Field("Halted", "since %s: %s", FormatTime(h.GetSince()), h.GetCause().GetMessage())
		w.Field("Hint", "%s", haltHint(h))
	}
}

// haltHint returns the hint of a halted operation.
func haltHint(h *operationsv1.Halt) string {
	hint := "The operation goes on by itself, within half a minute, once that is over."
	if does := h.GetCause().GetHint(); does != "" {
		hint = "To do: " + does + ". " + hint
	}
	return hint
}

// PhaseOf returns the phase of an operation, with a note if it is halted.
func PhaseOf(op *client.Operation) Cell {
	text := EndPhase(op.GetPhase(), op.GetFailure())
	if op.GetHalt() != nil {
		return Cell{text + ", halted", yellow}
	}
	return StateCell(text)
}
