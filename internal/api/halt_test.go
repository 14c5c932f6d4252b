package api

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestAHaltIsOnTheWire(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cause := &operation.Failure{Kind: errkind.NoSpace, Message: "m", Hint: "h"}
	want := &operationsv1.Halt{Since: timeToWire(since), Cause: failureToWire(cause)}
	if got := operationToWire(operation.Operation{Halted: &operation.Halt{Since: since, Cause: cause}}).GetHalt(); !proto.Equal(got, want) {
		t.Errorf("of an operation: %v", got)
	}
	if got := operationToWire(operation.Operation{}).GetHalt(); got != nil {
		t.Errorf("of one that goes on: %v", got)
	}
	e := operation.Event{Operation: "1", Sequence: 7, Type: operation.Halting, Time: since, Failure: cause}
	if got := eventToWire(e); got.GetSequence() != 7 || !proto.Equal(got.GetHalt(), want) {
		t.Errorf("of an event: %v", got)
	}
	e.Failure = nil
	if got := eventToWire(e); got.GetHalt() == nil || got.GetHalt().GetCause() != nil || got.GetHalt().GetSince() != nil {
		t.Errorf("of an event that says that it goes on: %v", got)
	}
	for _, c := range []struct {
		e    operation.Event
		want string
	}{{operation.Event{Type: operation.Halting, Failure: cause}, "halted, and tries again: m"}, {operation.Event{Type: operation.Halting}, "goes on"}} {
		if got := logToUpstream(c.e, operation.Event{}); got.GetMessage() != c.want {
			t.Errorf("upstream's log has %v", got)
		}
	}
}
