package cli

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// requestingReboot is upstream's text. Tests of whole systems search for it.
const requestingReboot = "Requesting reboot"

// phase returns the name of a phase for users: "done" for PHASE_DONE.
func phase(p fmt.Stringer) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_"))
}

// endPhase is phase, but "failed" for an operation that was undone after a failure, because
// users search for that word.
func endPhase(p operationsv1.Phase, f *operationsv1.Failure) string {
	if p == operationsv1.Phase_PHASE_UNDONE && f != nil && f.GetReason() != string(errkind.Cancelled) {
		return "failed"
	}
	return phase(p)
}

// stateCell returns the cell of the state of an operation or a step, with a colour if a
// person has to notice it.
func stateCell(state string) cell {
	switch state {
	case "failed", "stuck":
		return cell{state, red}
	}
	return cell{text: state}
}

// formatTime formats a time in UTC, to the second.
func formatTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}

// haltHint returns the hint of a halted operation.
func haltHint(h *operationsv1.Halt) string {
	hint := "The operation goes on by itself, within half a minute, once that is over."
	if does := h.GetCause().GetHint(); does != "" {
		hint = "To do: " + does + ". " + hint
	}
	return hint
}

// phaseOf returns the phase of an operation, with a note if it is halted.
func phaseOf(op *client.Operation) cell {
	text := endPhase(op.GetPhase(), op.GetFailure())
	if op.GetHalt() != nil {
		return cell{text + ", halted", yellow}
	}
	return stateCell(text)
}
