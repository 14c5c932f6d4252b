package api

import (
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func mapSlice[A, B any](in []A, convert func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = convert(a)
	}
	return out
}

// maxText is the largest text in a message, in bytes.
const maxText = 64 << 10

// textToWire makes a text of any origin (the output of a tool, a file) fit for a message:
// one byte that is not UTF-8 would make protobuf refuse the message.
func textToWire(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + " …"
	}
	return strings.ToValidUTF8(s, "?")
}

// timeToWire returns nil for the zero time.
func timeToWire(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func operationToWire(op operation.Operation) *operationsv1.Operation {
	return &operationsv1.Operation{
		Id: op.ID, Kind: op.Kind, Summary: textToWire(op.Summary),
		Phase: phaseToWire(op.Phase), Steps: mapSlice(op.Steps(), stepToWire), Step: op.Step,
		Waiting: string(op.Waiting), Failure: failureToWire(op.Failure),
		CreateTime: timeToWire(op.Created), UpdateTime: timeToWire(op.Updated), LastSequence: op.Sequence,
		TraceId: op.TraceID(), RequestId: textToWire(op.RequestID), Halt: haltToWire(op.Halted), AskedBy: textToWire(op.AskedBy),
	}
}

func haltToWire(h *operation.Halt) *operationsv1.Halt {
	if h == nil {
		return nil
	}
	return &operationsv1.Halt{Since: timeToWire(h.Since), Cause: failureToWire(h.Cause)}
}

// phaseToWire relies on the phases having the same words on the wire.
func phaseToWire(p operation.Phase) operationsv1.Phase {
	return operationsv1.Phase(operationsv1.Phase_value["PHASE_"+strings.ToUpper(string(p))])
}

// stepToWire relies on the states having the same words on the wire.
func stepToWire(s operation.StepStatus) *operationsv1.Step {
	state := operationsv1.StepState_value["STEP_STATE_"+strings.ToUpper(string(s.State))]
	return &operationsv1.Step{Name: s.Name, State: operationsv1.StepState(state)}
}

func failureToWire(f *operation.Failure) *operationsv1.Failure {
	if f == nil {
		return nil
	}
	return &operationsv1.Failure{Reason: string(f.Kind), Message: textToWire(f.Message), Hint: textToWire(f.Hint), Code: int32(grpckind.Code(f.Kind)), Name: f.Name}
}

func eventToWire(e operation.Event) *operationsv1.Event {
	out := &operationsv1.Event{
		OperationId: e.Operation, Sequence: e.Sequence, Time: timeToWire(e.Time), Phase: phaseToWire(e.Phase), Step: e.Step,
	}
	switch e.Type {
	case operation.Change:
		out.Body = &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: string(e.Waiting), Failure: failureToWire(e.Failure)}}
	case operation.Progress:
		out.Body = &operationsv1.Event_Progress{Progress: &operationsv1.Progress{
			Done: e.Done, Total: e.Total, Part: textToWire(e.Part), PartDone: e.PartDone, PartTotal: e.PartTotal,
		}}
	case operation.Log:
		out.Body = &operationsv1.Event_Log{Log: &operationsv1.LogLine{
			Severity: severityToWire(e.Level), Message: textToWire(e.Message), Attributes: attributesToWire(e.Attributes),
		}}
	case operation.Metric:
		out.Body = &operationsv1.Event_Metric{Metric: &operationsv1.Metric{Name: e.Name, Value: e.Value, Unit: e.Unit}}
	case operation.Halting:
		out.Body = &operationsv1.Event_Halt{Halt: &operationsv1.Halt{Cause: failureToWire(e.Failure)}}
		if e.Failure != nil {
			out.GetHalt().Since = timeToWire(e.Time)
		}
	}
	return out
}

func attributesToWire(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[textToWire(k)] = textToWire(v)
	}
	return out
}

func severityToWire(l slog.Level) operationsv1.Severity {
	switch {
	case l < slog.LevelInfo:
		return operationsv1.Severity_SEVERITY_DEBUG
	case l < slog.LevelWarn:
		return operationsv1.Severity_SEVERITY_INFO
	case l < slog.LevelError:
		return operationsv1.Severity_SEVERITY_WARNING
	}
	return operationsv1.Severity_SEVERITY_ERROR
}
