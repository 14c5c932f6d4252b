package api

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	"github.com/trident-project/trident/proto/wire"
)

// Limits of lists.
const (
	defaultLimit = 50
	maxLimit     = 1000
)

type operationsServer struct {
	operationsv1.UnimplementedOperationsServiceServer
	runner *operation.Runner
}

func (s *operationsServer) Get(ctx context.Context, req *operationsv1.GetRequest) (*operationsv1.GetResponse, error) {
	op, err := s.runner.Get(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &operationsv1.GetResponse{Operation: operationToWire(op)}, nil
}

func (s *operationsServer) List(ctx context.Context, req *operationsv1.ListRequest) (*operationsv1.ListResponse, error) {
	limit, err := limitOf(req.GetLimit())
	if err != nil {
		return nil, err
	}
	ops, err := s.runner.List(ctx, limit, req.GetUnsettled())
	if err != nil {
		return nil, err
	}
	return &operationsv1.ListResponse{Operations: mapSlice(ops, operationToWire)}, nil
}

func (s *operationsServer) Watch(req *operationsv1.WatchRequest, stream grpc.ServerStreamingServer[operationsv1.WatchResponse]) error {
	return follow(stream, s.runner, req.GetId(), req.GetAfterSequence(), func(e *operationsv1.Event) error {
		return stream.Send(&operationsv1.WatchResponse{Event: e})
	})
}

func (s *operationsServer) Cancel(ctx context.Context, req *operationsv1.CancelRequest) (*operationsv1.CancelResponse, error) {
	op, err := s.runner.Cancel(context.WithoutCancel(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &operationsv1.CancelResponse{Operation: operationToWire(op)}, nil
}

func (s *operationsServer) Continue(ctx context.Context, req *operationsv1.ContinueRequest) (*operationsv1.ContinueResponse, error) {
	op, err := s.runner.Continue(context.WithoutCancel(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &operationsv1.ContinueResponse{Operation: operationToWire(op)}, nil
}

// follow sends the events of an operation until it has settled. The operation does not
// depend on who follows it.
func follow(stream grpc.ServerStream, runner *operation.Runner, id string, after uint64, send func(*operationsv1.Event) error) error {
	ctx := stream.Context()
	if _, err := runner.Get(ctx, id); err != nil {
		return err
	}
	noteOperation(ctx, id)
	if err := stream.SendHeader(metadata.Pairs(wire.HeaderOperation, id)); err != nil {
		return err
	}
	for event, err := range runner.Follow(ctx, id, after) {
		switch {
		case errors.Is(err, operation.ErrDetached):
			return grpckind.Reattach(id, after)
		case err != nil:
			return err
		}
		if err := send(eventToWire(event)); err != nil {
			return err
		}
		after = event.Sequence
	}
	return nil
}

func limitOf(n int32) (int, error) {
	switch {
	case n < 0 || n > maxLimit:
		return 0, errkind.Errorf(errkind.Invalid, "read the request: limit is %d, it must be from 0 to %d", n, maxLimit)
	case n == 0:
		return defaultLimit, nil
	}
	return int(n), nil
}
