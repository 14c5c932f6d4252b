package clienttest

import (
	"context"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/errkind"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

type hostServer struct {
	hostv1.UnimplementedHostServiceServer
	*Server
}

func (s hostServer) GetHost(context.Context, *hostv1.GetHostRequest) (*hostv1.GetHostResponse, error) {
	return s.host(), nil
}

func (s *Server) host() *hostv1.GetHostResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.CloneOf(s.config.Host)
}

func (s hostServer) ValidateConfig(ctx context.Context, req *hostv1.ValidateConfigRequest) (*hostv1.ValidateConfigResponse, error) {
	if err := s.checkHandle(ctx, req); err != nil {
		return nil, err
	}
	return &hostv1.ValidateConfigResponse{Valid: s.fault() == nil, Findings: s.config.Findings}, nil
}

// checkHandle fails if a request has a handle that is not open.
func (s *Server) checkHandle(ctx context.Context, req interface{ GetConfigHandle() int64 }) error {
	if req.GetConfigHandle() == 0 {
		return nil
	}
	_, err := s.opened(ctx, req.GetConfigHandle(), 0)
	return errkind.WithField(err, "config_handle")
}

// fault returns the first finding that is an error, or nil.
func (s *Server) fault() *hostv1.Finding {
	for _, f := range s.config.Findings {
		if f.GetSeverity() == hostv1.Severity_SEVERITY_ERROR {
			return f
		}
	}
	return nil
}

func (s hostServer) PlanUpdate(ctx context.Context, req *hostv1.PlanUpdateRequest) (*hostv1.PlanUpdateResponse, error) {
	if err := s.checkHandle(ctx, req); err != nil {
		return nil, err
	}
	return proto.CloneOf(s.config.Plan), nil
}

func (s hostServer) PlanInstall(ctx context.Context, req *hostv1.PlanInstallRequest) (*hostv1.PlanInstallResponse, error) {
	if err := s.checkHandle(ctx, req); err != nil {
		return nil, err
	}
	return proto.CloneOf(s.config.InstallPlan), nil
}

func (s hostServer) PlanRebuild(context.Context, *hostv1.PlanRebuildRequest) (*hostv1.PlanRebuildResponse, error) {
	if s.config.Refuse != nil {
		return nil, s.config.Refuse
	}
	return proto.CloneOf(s.config.RebuildPlan), nil
}

func (s hostServer) GetRecoveryKey(_ context.Context, req *hostv1.GetRecoveryKeyRequest) (*hostv1.GetRecoveryKeyResponse, error) {
	if len(s.config.RecoveryKey) == 0 {
		return nil, errkind.Errorf(errkind.NotFound, "get the recovery key: Trident has made no recovery key for this operation since the host has booted")
	}
	return &hostv1.GetRecoveryKeyResponse{OperationId: req.GetOperationId(), Key: s.config.RecoveryKey}, nil
}

type servicingStream = grpc.ServerStreamingServer[tridentv1.ServicingResponse]

// service begins an operation and streams it as upstream's daemon does.
func (s *Server) service(stream servicingStream, kind, summary string, reboot *tridentv1.RebootManagement, config *tridentv1.HostConfiguration) error {
	callerReboots := reboot.GetHandling() == tridentv1.RebootHandling_CALLER_HANDLES_REBOOT
	if s.config.NothingToDo && s.config.Refuse == nil {
		return s.complete(stream, nil)
	}
	op, err := s.begin(stream, start{kind: kind, summary: summary, callerReboots: callerReboots, config: config})
	if err != nil {
		return err
	}
	return s.show(stream, op, 0)
}

// show streams an operation, without the events up to after.
func (s *Server) show(stream servicingStream, op *operation, after uint64) error {
	if !s.config.Upstream {
		header := metadata.Pairs(wire.HeaderOperation, op.GetId())
		if after > 0 {
			header.Set(wire.HeaderAfter, strconv.FormatUint(after, 10))
		}
		if err := stream.SendHeader(header); err != nil {
			return err
		}
	}
	if err := stream.Send(&tridentv1.ServicingResponse{Timestamp: timestamppb.Now(), Response: &tridentv1.ServicingResponse_Started{}}); err != nil {
		return err
	}
	var before *operationsv1.Event
	for {
		e, err := s.await(stream.Context(), op, after)
		if err != nil {
			return err
		}
		if e == nil || s.holds(op, e) {
			return s.complete(stream, op)
		}
		after = e.GetSequence()
		line := e.GetLog()
		if moved := !s.config.Upstream && e.GetChange() != nil && e.GetChange().GetWaiting() == "" && e.GetStep() != before.GetStep(); moved && e.GetPhase() == operationsv1.Phase_PHASE_DOING {
			line = &operationsv1.LogLine{Severity: operationsv1.Severity_SEVERITY_INFO, Message: "step: " + e.GetStep()}
		}
		if line != nil {
			if err := stream.Send(logOf(e, line)); err != nil {
				return err
			}
		}
		before = e
	}
}

// tried returns the operation that rebooted the host, if it continues or if the same
// request had it before, and the last event before the reboot.
func (s *Server) tried(stream servicingStream) (*operation, uint64) {
	request := s.requestOf(stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.operations {
		if op.boot > 0 && (!ended(op.GetPhase()) || s.requests[request] == op) {
			if request != "" {
				s.requests[request] = op
			}
			return op, op.boot
		}
	}
	return nil, 0
}

// holds reports whether an operation waits for a reboot, at event e.
func (s *Server) holds(op *operation, e *operationsv1.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.GetChange().GetWaiting() == "reboot" && op.GetLastSequence() == e.GetSequence()
}

func logOf(e *operationsv1.Event, line *operationsv1.LogLine) *tridentv1.ServicingResponse {
	level := map[operationsv1.Severity]tridentv1.LogLevel{
		operationsv1.Severity_SEVERITY_ERROR: tridentv1.LogLevel_LOG_LEVEL_ERROR, operationsv1.Severity_SEVERITY_WARNING: tridentv1.LogLevel_LOG_LEVEL_WARN,
		operationsv1.Severity_SEVERITY_INFO: tridentv1.LogLevel_LOG_LEVEL_INFO, operationsv1.Severity_SEVERITY_DEBUG: tridentv1.LogLevel_LOG_LEVEL_DEBUG,
	}
	log := &tridentv1.Log{Level: level[line.GetSeverity()], Message: line.GetMessage(), Module: e.GetStep()}
	return &tridentv1.ServicingResponse{Timestamp: e.GetTime(), Response: &tridentv1.ServicingResponse_Log{Log: log}}
}

// complete ends a stream. A nil op means that there was nothing to do.
func (s *Server) complete(stream servicingStream, op *operation) error {
	s.mu.Lock()
	end := proto.CloneOf(s.config.Completed)
	if end == nil {
		end = endOf(op)
	}
	s.mu.Unlock()
	return stream.Send(&tridentv1.ServicingResponse{Timestamp: timestamppb.Now(), Response: &tridentv1.ServicingResponse_Completed{Completed: end}})
}

// kindOf returns the kind of an operation in upstream's form; all updates are at run
// time.
func kindOf(op *operation) tridentv1.ServicingKind {
	switch {
	case op == nil || op.GetKind() == "host-check-root":
		return tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED
	case strings.HasPrefix(op.GetKind(), "host-install") || op.GetKind() == "host-stream-disk":
		return tridentv1.ServicingKind_SERVICING_KIND_CLEAN_INSTALL
	case strings.HasPrefix(op.GetKind(), "host-rollback"):
		return tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME
	}
	return tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
}

func endOf(op *operation) *tridentv1.Completed {
	end := &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED,
		ServicingKind: kindOf(op).Enum(),
	}
	switch {
	case op == nil:
	case op.GetFailure() != nil:
		end.Status, end.ServicingKind = tridentv1.StatusCode_STATUS_CODE_FAILURE, nil
		end.Error = &tridentv1.TridentError{
			Kind: tridentv1.TridentErrorKind_SERVICING_ERROR, Subkind: op.GetFailure().GetName(), Message: op.GetFailure().GetMessage(),
		}
	case op.GetWaiting() == "reboot" && op.callerReboots:
		end.RebootStatus = tridentv1.RebootStatus_REBOOT_REQUIRED
	case op.GetWaiting() == "reboot":
		end.RebootStatus = tridentv1.RebootStatus_REBOOT_STARTED
	}
	return end
}

// text returns the Host Configuration of a call.
func (s *Server) text(ctx context.Context, config *tridentv1.HostConfiguration) (string, error) {
	given := metadata.ValueFromIncomingContext(ctx, wire.HeaderConfigHandle)
	if len(given) != 1 {
		return config.GetConfig(), nil
	}
	id, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil {
		return "", invalid(wire.HeaderConfigHandle, "%.40q is not a handle", given[0])
	}
	data, err := s.opened(ctx, id, 0)
	return string(data), errkind.WithField(err, wire.HeaderConfigHandle)
}

func (s *Server) registerUpstream(g grpc.ServiceRegistrar) {
	tridentv1.RegisterVersionServiceServer(g, versionServer{Server: s})
	tridentv1.RegisterUpdateServiceServer(g, updateServer{Server: s})
	tridentv1.RegisterCommitServiceServer(g, commitServer{Server: s})
	tridentv1.RegisterStreamingServiceServer(g, streamingServer{Server: s})
	tridentv1preview.RegisterCommitServiceServer(g, checkServer{Server: s})
	tridentv1preview.RegisterInstallServiceServer(g, installServer{Server: s})
	tridentv1preview.RegisterRebuildRaidServiceServer(g, raidServer{Server: s})
	tridentv1preview.RegisterRollbackServiceServer(g, rollbackServer{Server: s})
	tridentv1preview.RegisterStatusServiceServer(g, statusServer{Server: s})
	tridentv1preview.RegisterValidationServiceServer(g, validationServer{Server: s})
}
