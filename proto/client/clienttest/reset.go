package clienttest

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/proto/errkind"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

type resetServer struct {
	machinev1.UnimplementedResetServiceServer
	*Server
}

func (s resetServer) PlanReset(context.Context, *machinev1.PlanResetRequest) (*machinev1.PlanResetResponse, error) {
	if s.config.Refuse != nil {
		return nil, s.config.Refuse
	}
	return proto.CloneOf(s.config.ResetPlan), nil
}

func (s resetServer) Reset(req *machinev1.ResetRequest, stream grpc.ServerStreamingServer[machinev1.ResetResponse]) error {
	if want := s.config.ResetPlan.GetConfirmation(); req.GetConfirmation() != want {
		return errkind.Errorf(errkind.Precondition, "reset the host: the confirmation %q is not that of the present plan", req.GetConfirmation())
	}
	op, err := s.begin(stream, start{kind: "reset", summary: "reset the host"})
	if err != nil {
		return err
	}
	return s.follow(stream, op, 0, false, func(e *operationsv1.Event) error { return stream.Send(&machinev1.ResetResponse{Event: e}) })
}
