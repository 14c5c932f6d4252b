package api

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/trust"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func equal(a, b proto.Message) bool { return proto.Equal(a, b) }

func check(t *testing.T, want, got proto.Message) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var (
	begun = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended = begun.Add(time.Hour)
)

func TestAnOperationOnTheWire(t *testing.T) {
	op := operation.Operation{
		ID: "1", Kind: "self-upgrade", Summary: "upgrade", Phase: operation.Undoing, Plan: []string{"a", "b", "c"}, Step: "b", Reached: "c",
		Waiting: operation.Restart, Failure: &operation.Failure{Kind: errkind.Corrupt, Message: "m", Hint: "h"},
		Created: begun, Updated: ended, Sequence: 7,
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", RequestID: "r-1",
	}
	check(t, &operationsv1.Operation{
		Id: "1", Kind: "self-upgrade", Summary: "upgrade", Phase: operationsv1.Phase_PHASE_UNDOING, Step: "b", Waiting: "restart",
		Steps: []*operationsv1.Step{
			{Name: "a", State: operationsv1.StepState_STEP_STATE_DONE},
			{Name: "b", State: operationsv1.StepState_STEP_STATE_UNDOING},
			{Name: "c", State: operationsv1.StepState_STEP_STATE_UNDONE},
		},
		Failure:    &operationsv1.Failure{Reason: "CORRUPT", Message: "m", Hint: "h", Code: 15},
		CreateTime: timestamppb.New(begun), UpdateTime: timestamppb.New(ended), LastSequence: 7,
		TraceId: "4bf92f3577b34da6a3ce929d0e0e4736", RequestId: "r-1",
	}, operationToWire(op))
}

func TestEveryPhaseAndStepStateHasItsNumber(t *testing.T) {
	for p, want := range map[operation.Phase]operationsv1.Phase{
		operation.Doing: 1, operation.Undoing: 2, operation.Done: 3, operation.Undone: 4, operation.Stuck: 5, "later": 0,
	} {
		if got := phaseToWire(p); got != want {
			t.Errorf("%s is %v, want %v", p, got, want)
		}
	}
	for s, want := range map[operation.StepState]operationsv1.StepState{
		operation.StepPending: 1, operation.StepDoing: 2, operation.StepDone: 3, operation.StepUndoing: 4, operation.StepUndone: 5,
	} {
		if got := stepToWire(operation.StepStatus{State: s}).GetState(); got != want {
			t.Errorf("%s is %v, want %v", s, got, want)
		}
	}
}

func TestEventsOnTheWire(t *testing.T) {
	base := operation.Event{Operation: "1", Sequence: 2, Time: begun, Phase: operation.Doing, Step: "fetch"}
	wire := func(set func(*operationsv1.Event)) *operationsv1.Event {
		e := &operationsv1.Event{OperationId: "1", Sequence: 2, Time: timestamppb.New(begun), Phase: operationsv1.Phase_PHASE_DOING, Step: "fetch"}
		set(e)
		return e
	}
	for _, c := range []struct {
		name string
		in   func(*operation.Event)
		want func(*operationsv1.Event)
	}{
		{"change", func(e *operation.Event) {
			e.Type, e.Waiting, e.Failure = operation.Change, operation.Reboot, &operation.Failure{Kind: errkind.Busy, Message: "m"}
		}, func(e *operationsv1.Event) {
			e.Body = &operationsv1.Event_Change{Change: &operationsv1.Change{
				Waiting: "reboot", Failure: &operationsv1.Failure{Reason: "BUSY", Message: "m", Code: 10},
			}}
		}},
		{"progress", func(e *operation.Event) { e.Type, e.Done, e.Total = operation.Progress, 3, 9 },
			func(e *operationsv1.Event) {
				e.Body = &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: 3, Total: 9}}
			}},
		{"progress of a part", func(e *operation.Event) {
			e.Type, e.Done, e.Total, e.Part, e.PartDone, e.PartTotal = operation.Progress, 3, 9, "ro\xffot", 1, 4
		}, func(e *operationsv1.Event) {
			e.Body = &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: 3, Total: 9, Part: "ro?ot", PartDone: 1, PartTotal: 4}}
		}},
		{"log", func(e *operation.Event) { e.Type, e.Level, e.Message = operation.Log, slog.LevelWarn, "careful" },
			func(e *operationsv1.Event) {
				e.Body = &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: operationsv1.Severity_SEVERITY_WARNING, Message: "careful"}}
			}},
		{"log with attributes", func(e *operation.Event) {
			e.Type, e.Message, e.Attributes = operation.Log, "m", map[string]string{"file": "a\xffb"}
		}, func(e *operationsv1.Event) {
			e.Body = &operationsv1.Event_Log{Log: &operationsv1.LogLine{
				Severity: operationsv1.Severity_SEVERITY_INFO, Message: "m", Attributes: map[string]string{"file": "a?b"},
			}}
		}},
		{"metric", func(e *operation.Event) {
			e.Type, e.Name, e.Value, e.Unit = operation.Metric, "step.duration", 1.5, "s"
		},
			func(e *operationsv1.Event) {
				e.Body = &operationsv1.Event_Metric{Metric: &operationsv1.Metric{Name: "step.duration", Value: 1.5, Unit: "s"}}
			}},
		{"of a later version", func(e *operation.Event) { e.Type = "later" }, func(*operationsv1.Event) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := base
			c.in(&in)
			check(t, wire(c.want), eventToWire(in))
		})
	}
}

func TestLevelsOnTheWire(t *testing.T) {
	for l, want := range map[slog.Level]operationsv1.Severity{
		slog.LevelDebug: 1, slog.LevelInfo: 2, slog.LevelWarn: 3, slog.LevelError: 4, slog.LevelError + 4: 4,
	} {
		if got := severityToWire(l); got != want {
			t.Errorf("%s is %v, want %v", l, got, want)
		}
	}
}

func TestTextFromAnywhereCanBeSent(t *testing.T) {
	in := operation.Failure{Kind: errkind.Internal, Message: "tool said \xff\xfe", Hint: strings.Repeat("ä", maxText)}
	out := failureToWire(&in)
	if _, err := proto.Marshal(out); err != nil {
		t.Error(err)
	}
	if out.GetMessage() != "tool said ?" || len(out.GetHint()) > maxText+8 {
		t.Errorf("message %q, hint of %d bytes", out.GetMessage(), len(out.GetHint()))
	}
}

func TestStatusOnTheWire(t *testing.T) {
	entry := selfservice.Entry{
		Operation: "1", Kind: "self-upgrade", From: "1.0.0", To: "2.0.0", Phase: operation.Undone,
		Failure: &operation.Failure{Kind: errkind.Unhealthy, Message: "m"}, Start: begun, End: ended, Evidence: "/e",
	}
	wireEntry := &selfv1.HistoryEntry{
		OperationId: "1", Kind: "self-upgrade", FromVersion: "1.0.0", ToVersion: "2.0.0", Phase: operationsv1.Phase_PHASE_UNDONE,
		Failure:   &operationsv1.Failure{Reason: "UNHEALTHY", Message: "m", Code: 10},
		StartTime: timestamppb.New(begun), EndTime: timestamppb.New(ended), Evidence: "/e",
	}
	check(t, &selfv1.GetStatusResponse{
		RunningVersion: "2.0.0", Origin: selfv1.Origin_ORIGIN_EXTENSION, BaseVersion: "1.0.0", ActiveVersion: "2.0.0",
		Merged: true, Verity: true, RollbackTarget: "base", PolicyEnforced: true, Faults: []string{"f"},
		Images:    []*selfv1.Image{{Version: "2.0.0", RootHash: "ab", Size: 5, StagedTime: timestamppb.New(begun), Active: true, Previous: true}},
		Blocked:   []*selfv1.BlockedVersion{{Version: "3.0.0", Reason: "r", Time: timestamppb.New(ended), OperationId: "2", Evidence: "/f"}},
		Trusted:   []*selfv1.TrustedCertificate{{Subject: "CN=x", Fingerprint: "cd", NotAfter: timestamppb.New(ended), Path: "/c"}},
		Operation: &operationsv1.Operation{Id: "3", Phase: operationsv1.Phase_PHASE_DOING, TraceId: "e1c83b8fab3572403a9f799ddc38ebef"}, Last: wireEntry,
	}, statusToWire(selfservice.Status{
		Running: "2.0.0", FromExtension: true, Base: "1.0.0", Active: "2.0.0", Merged: true, Verity: true, RollbackTarget: "base", PolicyEnforced: true, Faults: []string{"f"},
		Images:    []selfservice.Image{{Version: "2.0.0", RootHash: "ab", Size: 5, Staged: begun, Active: true, Previous: true}},
		Blocked:   []selfservice.Blocked{{Version: "3.0.0", Reason: "r", Time: ended, Operation: "2", Evidence: "/f"}},
		Trusted:   []trust.Certificate{{Subject: "CN=x", Fingerprint: "cd", NotAfter: ended, Path: "/c"}},
		Operation: &operation.Operation{ID: "3", Phase: operation.Doing}, Last: &entry,
	}))
	check(t, &selfv1.GetStatusResponse{RunningVersion: "1.0.0", Origin: selfv1.Origin_ORIGIN_BASE}, statusToWire(selfservice.Status{Running: "1.0.0"}))
}

func TestTrialsFromTheWire(t *testing.T) {
	got, err := trialFromWire(&selfv1.Trial{
		Soak: durationpb.New(time.Second), Deadline: durationpb.New(time.Minute), AllowDowngrade: true, AllowReadOnlyUsr: true,
	})
	if want := (selfservice.Trial{Soak: time.Second, Deadline: time.Minute, AllowDowngrade: true, AllowReadOnlyUsr: true}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := trialFromWire(nil); err != nil || got != (selfservice.Trial{}) {
		t.Errorf("none: got %+v, %v", got, err)
	}
	for _, d := range []*durationpb.Duration{durationpb.New(-1), {Seconds: 1 << 60}, {Seconds: 1, Nanos: -1}} {
		for _, in := range []*selfv1.Trial{{Soak: d}, {Deadline: d}} {
			if _, err := trialFromWire(in); errkind.Of(err) != errkind.Invalid {
				t.Errorf("%v: %v", in, err)
			}
		}
	}
}
