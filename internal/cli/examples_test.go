package cli

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func at(minute int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2026, 3, 4, 5, minute, 0, 0, time.UTC))
}

func exampleHistory() []*selfv1.HistoryEntry {
	return []*selfv1.HistoryEntry{
		{
			OperationId: "op-b", Kind: "self-upgrade", FromVersion: "2.0.0", ToVersion: "3.0.0", Phase: undone,
			Failure:   &operationsv1.Failure{Reason: "UNHEALTHY", Message: "prove: it exited\n4 times"},
			StartTime: at(10), EndTime: at(11), Evidence: "/var/lib/trident/self/evidence/3.0.0",
		},
		{OperationId: "op-a", Kind: "self-upgrade", FromVersion: "1.0.0", ToVersion: "2.0.0", Phase: done, StartTime: at(1), EndTime: at(2)},
	}
}

func exampleStatus() *selfv1.GetStatusResponse {
	return &selfv1.GetStatusResponse{
		RunningVersion: "2.0.0", Origin: selfv1.Origin_ORIGIN_EXTENSION, BaseVersion: "1.0.0", ActiveVersion: "2.0.0",
		Merged: true, Verity: true, RollbackTarget: "base",
		Images:  []*selfv1.Image{{Version: "2.0.0", RootHash: "0123456789abcdef0123456789abcdef", Size: 23 << 20, StagedTime: at(1), Active: true}},
		Blocked: []*selfv1.BlockedVersion{{Version: "3.0.0", Reason: "prove: it exited 4 times", Time: at(11), OperationId: "op-b", Evidence: "/var/lib/trident/self/evidence/3.0.0"}},
		Trusted: []*selfv1.TrustedCertificate{{Subject: "CN=Trident", Fingerprint: "fedcba9876543210fedc", NotAfter: at(59), Path: "/usr/lib/trident/trust.d/trident.crt"}},
		Last:    exampleHistory()[0],
	}
}

// statusAfterRollback is that of a daemon whose first operation failed.
func statusAfterRollback() *selfv1.GetStatusResponse {
	last := exampleHistory()[0]
	last.OperationId = "op-1"
	return &selfv1.GetStatusResponse{RunningVersion: "1.0.0", Origin: selfv1.Origin_ORIGIN_BASE, BaseVersion: "1.0.0", Last: last}
}

func exampleOperations() []*operationsv1.Operation {
	step := func(name string, state operationsv1.StepState) *operationsv1.Step {
		return &operationsv1.Step{Name: name, State: state}
	}
	return []*operationsv1.Operation{{
		Id: "op-b", Kind: "self-upgrade", Summary: "upgrade Trident to 3.0.0", Phase: undone, Step: "fetch",
		Failure:    &operationsv1.Failure{Reason: "UNHEALTHY", Message: "prove: it exited 4 times", Hint: "read the log in the evidence"},
		Steps:      []*operationsv1.Step{step("fetch", operationsv1.StepState_STEP_STATE_UNDONE), step("settle", operationsv1.StepState_STEP_STATE_PENDING)},
		CreateTime: at(10), UpdateTime: at(11), LastSequence: 12,
	}}
}
