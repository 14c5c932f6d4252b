package clienttest

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

type versionServer struct {
	tridentv1.UnimplementedVersionServiceServer
	*Server
}

func (s versionServer) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &tridentv1.VersionResponse{Version: s.config.Version}, nil
}

type operationsServer struct {
	operationsv1.UnimplementedOperationsServiceServer
	*Server
}

func (s operationsServer) Get(_ context.Context, req *operationsv1.GetRequest) (*operationsv1.GetResponse, error) {
	op, err := s.find(req.GetId())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &operationsv1.GetResponse{Operation: proto.CloneOf(op.Operation)}, nil
}

func (s operationsServer) List(_ context.Context, req *operationsv1.ListRequest) (*operationsv1.ListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &operationsv1.ListResponse{}
	for _, op := range slices.Backward(s.operations) {
		full := req.GetLimit() > 0 && len(resp.GetOperations()) == int(req.GetLimit())
		if !full && !(req.GetUnsettled() && ended(op.GetPhase())) {
			resp.Operations = append(resp.Operations, proto.CloneOf(op.Operation))
		}
	}
	return resp, nil
}

func (s operationsServer) Watch(req *operationsv1.WatchRequest, stream grpc.ServerStreamingServer[operationsv1.WatchResponse]) error {
	op, err := s.find(req.GetId())
	if err != nil {
		return err
	}
	return s.follow(stream, op, req.GetAfterSequence(), true, func(e *operationsv1.Event) error {
		return stream.Send(&operationsv1.WatchResponse{Event: e})
	})
}

func (s operationsServer) Cancel(_ context.Context, req *operationsv1.CancelRequest) (*operationsv1.CancelResponse, error) {
	op, err := s.find(req.GetId())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.cancel(op)
	return &operationsv1.CancelResponse{Operation: snapshot}, err
}

// Continue fails, because no operation of this server pauses.
func (s operationsServer) Continue(_ context.Context, req *operationsv1.ContinueRequest) (*operationsv1.ContinueResponse, error) {
	op, err := s.find(req.GetId())
	if err != nil {
		return nil, err
	}
	return nil, errkind.Errorf(errkind.Precondition, "continue operation %s: the operation is not paused", op.GetId())
}

// follow sends the events of an operation until it ends, or until Drop ends the stream.
// With hard every second drop closes the connections. The stream that begins an operation
// is never hard: its client may not have received the operation's ID.
func (s *Server) follow(stream grpc.ServerStream, op *operation, after uint64, hard bool, send func(*operationsv1.Event) error) error {
	if err := stream.SendHeader(metadata.Pairs(wire.HeaderOperation, op.GetId())); err != nil {
		return err
	}
	for sent := 1; ; sent++ {
		e, err := s.await(stream.Context(), op, after)
		if err != nil || e == nil {
			return err
		}
		if err := send(e); err != nil {
			return err
		}
		after = e.GetSequence()
		if s.goes(op, e) || (s.config.Drop > 0 && sent == s.config.Drop) {
			return s.drop(op.GetId(), after, hard)
		}
	}
}

// goes reports whether the daemon exits with event e, and starts the next daemon if so.
func (s *Server) goes(op *operation, e *operationsv1.Event) bool {
	waiting := e.GetChange().GetWaiting()
	if waiting != "restart" && (waiting != "reboot" || op.callerReboots) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.GetSequence() <= op.passed {
		return false
	}
	op.passed = e.GetSequence()
	s.next()
	return true
}

// await waits for the event after a sequence number, and returns nil at the end.
func (s *Server) await(ctx context.Context, op *operation, after uint64) (*operationsv1.Event, error) {
	for {
		s.mu.Lock()
		changed, end := s.changed, ended(op.GetPhase())
		if int(after) < len(op.events) {
			defer s.mu.Unlock()
			return op.events[after], nil
		}
		s.mu.Unlock()
		if end {
			return nil, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Server) drop(id string, last uint64, hard bool) error {
	s.mu.Lock()
	s.drops++
	hard = hard && s.drops%2 == 0
	s.mu.Unlock()
	if hard {
		s.breakConnections()
	}
	return grpckind.Reattach(id, last)
}

type selfServer struct {
	selfv1.UnimplementedSelfServiceServer
	*Server
}

func (s selfServer) GetStatus(context.Context, *selfv1.GetStatusRequest) (*selfv1.GetStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := proto.CloneOf(s.config.Status)
	if out.Policy == nil {
		out.Policy = proto.CloneOf(s.config.Policy.GetPolicy())
	}
	return out, nil
}

func (s selfServer) History(_ context.Context, req *selfv1.HistoryRequest) (*selfv1.HistoryResponse, error) {
	all := s.config.History
	if n := int(req.GetLimit()); n > 0 && n < len(all) {
		all = all[:n]
	}
	return &selfv1.HistoryResponse{Entries: all}, nil
}

func (s selfServer) Stage(stream grpc.BidiStreamingServer[selfv1.StageRequest, selfv1.StageResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	op, err := s.begin(stream, start{kind: "self-stage", summary: "stage Trident", source: first.GetStart().GetSource(), next: func() ([]byte, error) {
		req, err := stream.Recv()
		return req.GetChunk(), err
	}})
	if err != nil {
		return err
	}
	return s.follow(stream, op, 0, false, func(e *operationsv1.Event) error { return stream.Send(&selfv1.StageResponse{Event: e}) })
}

func (s selfServer) Upgrade(stream grpc.BidiStreamingServer[selfv1.UpgradeRequest, selfv1.UpgradeResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	op, err := s.begin(stream, start{kind: "self-upgrade", summary: "upgrade Trident", source: first.GetStart().GetSource(), next: func() ([]byte, error) {
		req, err := stream.Recv()
		return req.GetChunk(), err
	}})
	if err != nil {
		return err
	}
	return s.follow(stream, op, 0, false, func(e *operationsv1.Event) error { return stream.Send(&selfv1.UpgradeResponse{Event: e}) })
}

// receive receives an upload, and plays the script when the upload is complete.
func (s *Server) receive(op *operation, size int64, next func() ([]byte, error)) {
	var all []byte
	for int64(len(all)) < size {
		chunk, err := next()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			failure := &operationsv1.Failure{Reason: "UNAVAILABLE", Message: fmt.Sprintf("receive upload: it stopped at %d of %d bytes", len(all), size)}
			s.add(op, Step(operationsv1.Phase_PHASE_UNDOING, "fetch", failure))
			s.add(op, Step(operationsv1.Phase_PHASE_UNDONE, "fetch", failure))
			return
		}
		all = append(all, chunk...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads = append(s.uploads, all)
	s.play(op, s.config.Script)
}

func (s selfServer) Activate(_ *selfv1.ActivateRequest, stream grpc.ServerStreamingServer[selfv1.ActivateResponse]) error {
	op, err := s.begin(stream, start{kind: "self-activate", summary: "activate Trident"})
	if err != nil {
		return err
	}
	return s.follow(stream, op, 0, false, func(e *operationsv1.Event) error { return stream.Send(&selfv1.ActivateResponse{Event: e}) })
}

func (s selfServer) Rollback(_ *selfv1.RollbackRequest, stream grpc.ServerStreamingServer[selfv1.RollbackResponse]) error {
	op, err := s.begin(stream, start{kind: "self-rollback", summary: "roll Trident back"})
	if err != nil {
		return err
	}
	return s.follow(stream, op, 0, false, func(e *operationsv1.Event) error { return stream.Send(&selfv1.RollbackResponse{Event: e}) })
}

func (s selfServer) Unblock(_ context.Context, req *selfv1.UnblockRequest) (*selfv1.UnblockResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocked := s.config.Status.GetBlocked()
	at := slices.IndexFunc(blocked, func(b *selfv1.BlockedVersion) bool { return b.GetVersion() == req.GetVersion() })
	if at < 0 {
		return nil, errkind.Errorf(errkind.NotFound, "unblock version %s: it is not blocked", req.GetVersion())
	}
	s.config.Status.Blocked = slices.Delete(blocked, at, at+1)
	return &selfv1.UnblockResponse{}, nil
}

func (s selfServer) Remove(_ context.Context, req *selfv1.RemoveRequest) (*selfv1.RemoveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	images := s.config.Status.GetImages()
	at := slices.IndexFunc(images, func(i *selfv1.Image) bool { return i.GetVersion() == req.GetVersion() })
	if at < 0 {
		return nil, errkind.Errorf(errkind.NotFound, "remove version %s: there is no such image", req.GetVersion())
	}
	s.config.Status.Images = slices.Delete(images, at, at+1)
	return &selfv1.RemoveResponse{}, nil
}
