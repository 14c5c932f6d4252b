package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type selfServer struct {
	selfv1.UnimplementedSelfServiceServer
	self    *selfservice.Service
	runner  *operation.Runner
	handles *handleTable
}

func (s *selfServer) GetStatus(ctx context.Context, _ *selfv1.GetStatusRequest) (*selfv1.GetStatusResponse, error) {
	status, err := s.self.Status(ctx)
	if err != nil {
		return nil, err
	}
	return statusToWire(status), nil
}

func (s *selfServer) Stage(stream grpc.BidiStreamingServer[selfv1.StageRequest, selfv1.StageResponse]) error {
	start, source, err := begin(s, stream, (*selfv1.StageRequest).GetStart, (*selfv1.StageRequest).GetChunk)
	if err != nil {
		return err
	}
	id, err := s.self.Stage(detached(stream), source, start.GetAllowDowngrade())
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.StageResponse{Event: e})
	})
}

func (s *selfServer) Upgrade(stream grpc.BidiStreamingServer[selfv1.UpgradeRequest, selfv1.UpgradeResponse]) error {
	start, source, err := begin(s, stream, (*selfv1.UpgradeRequest).GetStart, (*selfv1.UpgradeRequest).GetChunk)
	if err != nil {
		return err
	}
	trial, err := trialFromWire(start.GetTrial())
	if err != nil {
		return err
	}
	id, err := s.self.Upgrade(detached(stream), source, trial)
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.UpgradeResponse{Event: e})
	})
}

func (s *selfServer) Activate(req *selfv1.ActivateRequest, stream grpc.ServerStreamingServer[selfv1.ActivateResponse]) error {
	trial, err := trialFromWire(req.GetTrial())
	if err != nil {
		return err
	}
	id, err := s.self.Activate(detached(stream), req.GetVersion(), trial)
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.ActivateResponse{Event: e})
	})
}

func (s *selfServer) Rollback(req *selfv1.RollbackRequest, stream grpc.ServerStreamingServer[selfv1.RollbackResponse]) error {
	trial, err := trialFromWire(req.GetTrial())
	if err != nil {
		return err
	}
	id, err := s.self.Rollback(detached(stream), trial)
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.RollbackResponse{Event: e})
	})
}

func (s *selfServer) Unblock(ctx context.Context, req *selfv1.UnblockRequest) (*selfv1.UnblockResponse, error) {
	if err := s.self.Unblock(ctx, req.GetVersion()); err != nil {
		return nil, err
	}
	return &selfv1.UnblockResponse{}, nil
}

func (s *selfServer) Remove(ctx context.Context, req *selfv1.RemoveRequest) (*selfv1.RemoveResponse, error) {
	if err := s.self.Remove(ctx, req.GetVersion()); err != nil {
		return nil, err
	}
	return &selfv1.RemoveResponse{}, nil
}

func (s *selfServer) History(ctx context.Context, req *selfv1.HistoryRequest) (*selfv1.HistoryResponse, error) {
	limit, err := limitOf(req.GetLimit())
	if err != nil {
		return nil, err
	}
	entries, err := s.self.History(ctx, limit)
	if err != nil {
		return nil, err
	}
	return &selfv1.HistoryResponse{Entries: mapSlice(entries, entryToWire)}, nil
}

// detached is the stream's context for what begins an operation: it does not end
// with the stream.
func detached(stream grpc.ServerStream) context.Context {
	return context.WithoutCancel(stream.Context())
}

// starter is the first message of a stream that can carry an upload.
type starter interface {
	comparable
	GetSource() *selfv1.Source
}

// begin reads the first message of such a stream. What comes after it is read by
// the upload, if that is the source.
func begin[Req, Res any, S starter](
	s *selfServer, stream grpc.BidiStreamingServer[Req, Res], startOf func(*Req) S, chunkOf func(*Req) []byte,
) (start S, source selfservice.Source, err error) {
	if start, err = firstOf(stream, startOf); err != nil {
		return start, source, err
	}
	source, err = s.sourceFromWire(stream.Context(), start.GetSource(), chunksOf(stream, startOf, chunkOf))
	return start, source, err
}
