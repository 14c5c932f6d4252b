package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestAHaltedOperationIsShownWhereverOperationsAre(t *testing.T) {
	t.Parallel()
	halt := &operationsv1.Halt{Since: timestamppb.Now(), Cause: &operationsv1.Failure{
		Reason: "NO_SPACE", Message: "verify: broken; then: write journal: database or disk is full", Hint: "free space on the file system of the datastore",
	}}
	op := &client.Operation{Id: "op-1", Summary: "stage trident", Phase: operationsv1.Phase_PHASE_DOING, Step: "verify", Halt: halt}
	for name, write := range map[string]func(*terminal.Table){
		"operation show": func(w *terminal.Table) { writeOperation(w, op) },
		"self status":    func(w *terminal.Table) { writeStatus(w, &client.Status{Operation: op}) },
	} {
		a, stdout, _ := testApp()
		if err := a.Show(nil, write); err != nil {
			t.Fatal(err)
		}
		text := stdout.String()
		for _, want := range []string{"doing, halted", halt.GetCause().GetMessage(), "free space on", "goes on by itself"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
	}
	var stderr bytes.Buffer
	p := terminal.NewProgress(&terminal.Streams{Stderr: &stderr, Stdout: io.Discard, Now: time.Now})
	for _, h := range []*operationsv1.Halt{halt, {}} {
		p.Event(&client.Event{OperationId: "op-1", Phase: operationsv1.Phase_PHASE_DOING, Step: "verify", Body: &operationsv1.Event_Halt{Halt: h}})
	}
	if got := stderr.String(); !strings.Contains(got, "The operation is halted: verify: broken; then: ") || !strings.HasSuffix(got, "The operation goes on\n") {
		t.Errorf("watching shows %q", got)
	}
}
