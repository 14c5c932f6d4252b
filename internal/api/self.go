package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// Updates has the update feed and the policy of the host's owner, in the messages of the API.
type Updates interface {
	CheckUpdates(ctx context.Context) (*selfv1.CheckUpdatesResponse, error)
	GetPolicy(ctx context.Context) (*selfv1.GetPolicyResponse, error)
	SetPolicy(ctx context.Context, req *selfv1.SetPolicyRequest) (*selfv1.SetPolicyResponse, error)
	// FeedSource returns the source of a version that the feed offers; "" is the version that
	// CheckUpdates offers.
	FeedSource(ctx context.Context, version string) (fetch.Source, error)
	// IncomingSource returns the newest image in the incoming folder.
	IncomingSource() (fetch.Source, error)
}

type selfServer struct {
	selfv1.UnimplementedSelfServiceServer
	self    *selfservice.Service
	updates Updates
	runner  *operation.Runner
	handles *handles.Table
}

func (s *selfServer) GetStatus(ctx context.Context, _ *selfv1.GetStatusRequest) (*selfv1.GetStatusResponse, error) {
	status, err := s.self.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := statusToWire(status)
	policy, err := s.updates.GetPolicy(ctx)
	if err != nil {
		out.Faults = append(out.Faults, textToWire(err.Error()))
	}
	out.Policy = policy.GetPolicy()
	return out, nil
}

func (s *selfServer) CheckUpdates(ctx context.Context, _ *selfv1.CheckUpdatesRequest) (*selfv1.CheckUpdatesResponse, error) {
	return s.updates.CheckUpdates(ctx)
}

func (s *selfServer) GetPolicy(ctx context.Context, _ *selfv1.GetPolicyRequest) (*selfv1.GetPolicyResponse, error) {
	return s.updates.GetPolicy(ctx)
}

func (s *selfServer) SetPolicy(ctx context.Context, req *selfv1.SetPolicyRequest) (*selfv1.SetPolicyResponse, error) {
	return s.updates.SetPolicy(ctx, req)
}

func (s *selfServer) Stage(stream grpc.BidiStreamingServer[selfv1.StageRequest, selfv1.StageResponse]) error {
	start, err := firstOf(stream, (*selfv1.StageRequest).GetStart)
	if err != nil {
		return err
	}
	chunks := chunksOf(stream, (*selfv1.StageRequest).GetStart, (*selfv1.StageRequest).GetChunk)
	return s.run(stream, func(ctx context.Context) (string, error) {
		source, err := s.sourceFromWire(stream.Context(), start.GetSource(), chunks)
		if err != nil {
			return "", err
		}
		return s.self.Stage(ctx, source, start.GetAllowDowngrade())
	}, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.StageResponse{Event: e})
	})
}

func (s *selfServer) Upgrade(stream grpc.BidiStreamingServer[selfv1.UpgradeRequest, selfv1.UpgradeResponse]) error {
	start, err := firstOf(stream, (*selfv1.UpgradeRequest).GetStart)
	if err != nil {
		return err
	}
	trial, err := trialFromWire(start.GetTrial())
	if err != nil {
		return err
	}
	chunks := chunksOf(stream, (*selfv1.UpgradeRequest).GetStart, (*selfv1.UpgradeRequest).GetChunk)
	return s.run(stream, func(ctx context.Context) (string, error) {
		source, err := s.sourceFromWire(stream.Context(), start.GetSource(), chunks)
		if err != nil {
			return "", err
		}
		return s.self.Upgrade(ctx, source, trial)
	}, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.UpgradeResponse{Event: e})
	})
}

func (s *selfServer) Activate(req *selfv1.ActivateRequest, stream grpc.ServerStreamingServer[selfv1.ActivateResponse]) error {
	trial, err := trialFromWire(req.GetTrial())
	if err != nil {
		return err
	}
	return s.run(stream, func(ctx context.Context) (string, error) {
		return s.self.Activate(ctx, req.GetVersion(), trial)
	}, func(e *operationsv1.Event) error {
		return stream.Send(&selfv1.ActivateResponse{Event: e})
	})
}

func (s *selfServer) Rollback(req *selfv1.RollbackRequest, stream grpc.ServerStreamingServer[selfv1.RollbackResponse]) error {
	trial, err := trialFromWire(req.GetTrial())
	if err != nil {
		return err
	}
	return s.run(stream, func(ctx context.Context) (string, error) {
		return s.self.Rollback(ctx, trial)
	}, func(e *operationsv1.Event) error {
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

// run begins an operation and follows it.
func (s *selfServer) run(stream grpc.ServerStream, begin func(context.Context) (string, error), send func(*operationsv1.Event) error) error {
	id, err := once(stream, s.runner, begin)
	if err != nil {
		return err
	}
	return follow(stream, s.runner, id, 0, send)
}
