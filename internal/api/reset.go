package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// resetter takes a host out of service.
type resetter interface {
	PlanReset(ctx context.Context) (*servicing.ResetPlan, error)
	Reset(ctx context.Context, confirmation string) (operationID string, err error)
}

type resetServer struct {
	machinev1.UnimplementedResetServiceServer
	host   resetter
	runner *operation.Runner
}

func (s *resetServer) PlanReset(ctx context.Context, _ *machinev1.PlanResetRequest) (*machinev1.PlanResetResponse, error) {
	plan, err := s.host.PlanReset(ctx)
	if err != nil {
		return nil, err
	}
	return &machinev1.PlanResetResponse{
		Text: textToWire(plan.String()), Steps: mapSlice(plan.Steps, plannedStepToWire), Stays: mapSlice(plan.Stays, textToWire),
		Warnings: warningsToWire(&plan.Plan, nil), HostName: textToWire(plan.HostName), Confirmation: plan.Confirmation,
	}, nil
}

func (s *resetServer) Reset(req *machinev1.ResetRequest, stream grpc.ServerStreamingServer[machinev1.ResetResponse]) error {
	id, err := once(stream, s.runner, func(ctx context.Context) (string, error) {
		return s.host.Reset(ctx, req.GetConfirmation())
	})
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, func(e *operationsv1.Event) error { return stream.Send(&machinev1.ResetResponse{Event: e}) })
}
