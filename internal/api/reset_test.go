package api

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/servicing"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	"github.com/trident-project/trident/proto/wire"
)

func TestThePlanOfAResetIsOnTheWire(t *testing.T) {
	f := newFixture(t)
	f.host.plan = servicing.Plan{
		Kind: "reset", Warnings: []string{"the network goes"},
		Steps: []servicing.PlannedStep{{Name: "files", Effects: []servicing.Effect{{Kind: "remove-file", Object: "/etc/a\xff", Text: "remove /etc/a\xff"}}}},
	}
	got, err := machinev1.NewResetServiceClient(f.conn).PlanReset(t.Context(), &machinev1.PlanResetRequest{})
	want := &machinev1.PlanResetResponse{
		Text:     "Steps of the servicing reset:\n  files\n    remove /etc/a?\nWhat stays:\n  Trident\n",
		Steps:    []*hostv1.PlannedStep{{Name: "files", Actions: []*hostv1.Action{{Kind: "remove-file", Object: "/etc/a?", Message: "remove /etc/a?"}}}},
		Stays:    []string{"Trident"},
		Warnings: []*hostv1.Finding{{Severity: hostv1.Severity_SEVERITY_WARNING, Message: "the network goes"}},
		HostName: "web-1", Confirmation: "token",
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	f.host.refuse = errkind.Errorf(errkind.Precondition, "a system is on trial")
	if _, err := machinev1.NewResetServiceClient(f.conn).PlanReset(t.Context(), &machinev1.PlanResetRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a host that cannot be reset: %v", err)
	}
}

// resets calls Reset and returns the operation and its events.
func resets(ctx context.Context, f *fixture) (id string, events []*operationsv1.Event, err error) {
	stream, err := machinev1.NewResetServiceClient(f.conn).Reset(ctx, &machinev1.ResetRequest{Confirmation: "token"})
	if err != nil {
		return "", nil, err
	}
	header, err := stream.Header()
	for err == nil {
		var resp *machinev1.ResetResponse
		if resp, err = stream.Recv(); err == nil {
			events = append(events, resp.GetEvent())
		}
	}
	if ids := header.Get(wire.HeaderOperation); len(ids) == 1 {
		id = ids[0]
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return id, events, err
}

func TestAResetIsAnOperationWithEvents(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderRequest, "one request")
	id, events, err := resets(ctx, f)
	if err != nil || id == "" || len(events) == 0 || events[len(events)-1].GetPhase() != operationsv1.Phase_PHASE_DONE {
		t.Fatalf("operation %q, %v, %v", id, events, err)
	}
	if again, _, err := resets(ctx, f); err != nil || again != id {
		t.Errorf("the same request again: %q, %v, want %q", again, err, id)
	}
	if diff := cmp.Diff([]any{"reset with token"}, f.host.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestARefusedResetBeginsNoOperation(t *testing.T) {
	f := newFixture(t)
	for kind, want := range map[errkind.Kind]codes.Code{errkind.Precondition: codes.FailedPrecondition, errkind.Invalid: codes.InvalidArgument, errkind.Busy: codes.Aborted} {
		f.host.refuse = errkind.Errorf(kind, "no")
		if id, events, err := resets(t.Context(), f); status.Code(err) != want || id != "" || len(events) > 0 {
			t.Errorf("%s: operation %q, %v, %v", kind, id, events, err)
		}
	}
	if rule := access()[machinev1.ResetService_Reset_FullMethodName]; rule.may != root || rule.worksWithoutHost {
		t.Errorf("the rule of the call is %+v", rule)
	}
}
