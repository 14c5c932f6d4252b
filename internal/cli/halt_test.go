package cli

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestAHaltIsShownWhileAnOperationIsWatched(t *testing.T) {
	t.Parallel()
	halt := &operationsv1.Halt{Since: timestamppb.Now(), Cause: &operationsv1.Failure{
		Reason: "NO_SPACE", Message: "verify: broken; then: write journal: database or disk is full", Hint: "free space on the file system of the datastore",
	}}
	a, _, stderr := commandtest.New()
	p := terminal.NewProgress(&a.Streams)
	for _, h := range []*operationsv1.Halt{halt, {}} {
		p.Event(&client.Event{OperationId: "op-1", Phase: operationsv1.Phase_PHASE_DOING, Step: "verify", Body: &operationsv1.Event_Halt{Halt: h}})
	}
	if got := stderr.String(); !strings.Contains(got, "The operation is halted: verify: broken; then: ") || !strings.HasSuffix(got, "The operation goes on\n") {
		t.Errorf("watching shows %q", got)
	}
}
