package self

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestNoTextOfAStatusActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	failure := &operationsv1.Failure{Reason: evil, Message: evil, Hint: evil}
	op := &client.Operation{Id: evil, Summary: evil, Failure: failure, Phase: operationsv1.Phase_PHASE_UNDONE, Halt: &operationsv1.Halt{Cause: failure}}
	status := &client.Status{
		RunningVersion: evil, BaseVersion: evil, ActiveVersion: evil, RollbackTarget: evil, Operation: op, Faults: []string{evil},
		Last: &client.HistoryEntry{OperationId: evil, Kind: evil, Failure: failure, Evidence: evil},
	}
	commandtest.Clean(t, 12, func(a *command.App) { _ = a.Show(status, func(w *terminal.Table) { writeStatus(w, status) }) })
}

func TestAHaltedOperationIsPartOfTheStatus(t *testing.T) {
	op := &client.Operation{Id: "op-1", Summary: "stage trident", Phase: operationsv1.Phase_PHASE_DOING, Step: "verify", Halt: &operationsv1.Halt{
		Since: timestamppb.Now(), Cause: &operationsv1.Failure{Reason: "NO_SPACE", Message: "write journal: database or disk is full", Hint: "free space on the file system of the datastore"},
	}}
	a, stdout, _ := commandtest.New()
	status := &client.Status{Operation: op}
	if err := a.Show(status, func(w *terminal.Table) { writeStatus(w, status) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"doing, halted", op.GetHalt().GetCause().GetMessage(), "free space on", "goes on by itself"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing:\n%s", want, stdout)
		}
	}
}
