// Package clienttest is a Trident daemon in memory, for the tests of programs that use
// proto/client.
//
// It serves the real API over gRPC but services no host: an operation plays a script of
// events. It can restart and lose connections as often as a test needs, because such
// programs have to survive both.
package clienttest

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/errkind"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// Config says how a Server behaves. The zero value is a current daemon whose operations
// continue until a client cancels them.
type Config struct {
	// Version is the version that the daemon states. NextVersion replaces it after
	// Restart, and after an event of Script that restarts the daemon or reboots the host.
	Version, NextVersion string
	// HostID is the host_id of the handshake. All servers with an empty HostID state the
	// same.
	HostID string
	// Capabilities are those that the daemon states. Without request-ids the server
	// ignores the names of requests; the others have no effect. Nil is all.
	Capabilities []string
	// Upstream limits the server to upstream's services: no handshake, and servicing
	// without the ID of its operation.
	Upstream bool

	// Script has the events of every operation, without ID and sequence number. The
	// server plays them at once, or after an upload is complete. Events after one with
	// which the operation waits for a reboot follow in the next boot; see Restart. An
	// operation whose last event does not end it continues until a client cancels it.
	Script []*operationsv1.Event
	// Completed is the result of servicing in upstream's form. Nil is success, or the
	// failure of the operation.
	Completed *tridentv1.Completed
	// NothingToDo ends servicing without an operation.
	NothingToDo bool
	// Refuse, if set, is the error of the methods that begin an operation.
	Refuse error
	// IgnoreCancel lets operations continue after Cancel.
	IgnoreCancel bool
	// Drop, if not 0, is the number of events after which a stream of events ends with
	// REATTACH, as when a daemon shuts down. Every second stream of Watch that it ends
	// loses its connection instead.
	Drop int
	// LoseAnswers is the number of calls that begin an operation and then lose their
	// connection, before any answer.
	LoseAnswers int

	// Status and History are the answers about Trident itself.
	Status  *selfv1.GetStatusResponse
	History []*selfv1.HistoryEntry
	// Updates is what the update feed has. Policy is the policy in effect, to which SetPolicy
	// adds; its field configured stays as it is.
	Updates *selfv1.CheckUpdatesResponse
	Policy  *selfv1.GetPolicyResponse
	// Host, Findings, Plan and InstallPlan are the answers about the host and about any
	// Host Configuration.
	Host        *hostv1.GetHostResponse
	Findings    []*hostv1.Finding
	Plan        *hostv1.PlanUpdateResponse
	InstallPlan *hostv1.PlanInstallResponse
	RebuildPlan *hostv1.PlanRebuildResponse
	// RecoveryKey is the recovery key of any installation; nil: there is none.
	RecoveryKey []byte
	// Operations exist from the start, and have ended.
	Operations []*operationsv1.Operation
}

// A Server serves the API.
type Server struct {
	config Config

	mu         sync.Mutex
	daemon     int // counts restarts
	operations []*operation
	requests   map[string]*operation
	handles    map[int64]*handle
	lastHandle int64
	uploads    [][]byte
	configs    []string
	calls      []string
	drops      int
	cancels    int
	lastConn   int
	conns      map[net.Conn]bool
	servers    []*grpc.Server
	changed    chan struct{} // closed when events are added
}

type operation struct {
	*operationsv1.Operation
	events        []*operationsv1.Event
	rest          []*operationsv1.Event // the events of the next boot
	callerReboots bool
	passed        uint64 // the last event that ended a daemon
	boot          uint64 // the last event before this boot
}

// New returns a server that does not listen yet.
func New(config Config) *Server {
	if config.Status == nil {
		config.Status = &selfv1.GetStatusResponse{RunningVersion: config.Version}
	}
	config.defaultUpdates()
	if config.Capabilities == nil {
		config.Capabilities = wire.Capabilities(true)
	}
	if config.HostID == "" {
		config.HostID = "a host"
	}
	if config.Host == nil {
		config.Host = &hostv1.GetHostResponse{Phase: hostv1.HostPhase_HOST_PHASE_SETTLED}
	}
	s := &Server{
		config: config, requests: map[string]*operation{}, handles: map[int64]*handle{},
		conns: map[net.Conn]bool{}, changed: make(chan struct{}),
	}
	for _, op := range config.Operations {
		s.operations = append(s.operations, &operation{Operation: op})
	}
	return s
}

// Listen serves a unix socket at path until Close or Drain.
func (s *Server) Listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.Serve(l)
	return nil
}

// Dial returns a connection in memory, for client.WithDialer.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.Serve(&once{conn: ours, closed: make(chan struct{})})
	return theirs, nil
}

// Serve serves a listener, such as one of TLS, until Close or Drain. It does not wait.
func (s *Server) Serve(l net.Listener) {
	g := grpc.NewServer(grpc.UnaryInterceptor(s.noteUnary), grpc.StreamInterceptor(s.noteStream))
	s.registerUpstream(g)
	if !s.config.Upstream {
		operationsv1.RegisterOperationsServiceServer(g, operationsServer{Server: s})
		selfv1.RegisterSelfServiceServer(g, selfServer{Server: s})
		hostv1.RegisterHostServiceServer(g, hostServer{Server: s})
		setupv1.RegisterSetupServiceServer(g, setupServer{Server: s})
		handlesv1.RegisterHandleServiceServer(g, handleServer{Server: s})
		healthpb.RegisterHealthServer(g, health.NewServer())
	}
	s.mu.Lock()
	s.servers = append(s.servers, g)
	s.mu.Unlock()
	go func() { _ = g.Serve(tracked{l, s}) }()
}

// Restart replaces the daemon: all connections and their handles are lost, and operations
// that wait for a restart or a reboot continue.
func (s *Server) Restart() {
	s.mu.Lock()
	s.next()
	s.mu.Unlock()
	s.breakConnections()
}

// Drain stops the server gracefully, as a daemon does before it exits: new calls are
// refused, the sockets of Listen are closed, running calls continue. It returns when they
// have ended.
func (s *Server) Drain() {
	s.mu.Lock()
	servers := slices.Clone(s.servers)
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, g := range servers {
		all.Go(g.GracefulStop)
	}
	all.Wait()
}

// next replaces the daemon. The caller holds s.mu.
func (s *Server) next() {
	s.daemon++
	if s.config.NextVersion != "" {
		s.config.Version = s.config.NextVersion
	}
	for _, op := range s.operations {
		rest := op.rest
		op.rest = nil
		if op.GetWaiting() == "reboot" {
			op.boot = op.GetLastSequence()
		}
		s.play(op, rest)
	}
}

// Close stops the servers of Listen, Serve and Dial, and closes their connections. Dial
// makes a new one afterwards.
func (s *Server) Close() {
	s.mu.Lock()
	servers := s.servers
	s.mu.Unlock()
	for _, g := range servers {
		g.Stop()
	}
}

// Uploads returns the images that Stage and Upgrade have received whole, in order.
func (s *Server) Uploads() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uploads)
}

// Configs returns the Host Configurations of updates and installations, in order, whether
// the call had a text or a handle.
func (s *Server) Configs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.configs)
}

// Calls returns the full names of the methods that were called, in order.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Cancels returns how many calls of Cancel found an operation that had not ended.
func (s *Server) Cancels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

// start describes a call that begins an operation.
type start struct {
	kind, summary string
	source        *selfv1.Source
	next          func() ([]byte, error) // of an upload
	callerReboots bool
	config        *tridentv1.HostConfiguration
}

// begin adds an operation and plays its script, after the upload if that is the source.
// For a request name that it knows it returns the first operation.
func (s *Server) begin(stream grpc.ServerStream, what start) (*operation, error) {
	if s.config.Refuse != nil {
		return nil, s.config.Refuse
	}
	if given := metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRequest); len(given) > 1 || len(given) == 1 && (given[0] == "" || len(given[0]) > wire.MaxRequest) {
		return nil, invalid(wire.HeaderRequest, "%s must be there once, with 1 to %d bytes", wire.HeaderRequest, wire.MaxRequest)
	}
	if from, ok := what.source.GetFrom().(*selfv1.Source_ImageHandle); ok {
		if _, err := s.opened(stream.Context(), from.ImageHandle, handlesv1.ImageKind_IMAGE_KIND_TRIDENT); err != nil {
			return nil, errkind.WithField(err, "start.source.image_handle")
		}
	}
	request := s.requestOf(stream)
	s.mu.Lock()
	op, known := s.requests[request]
	s.mu.Unlock()
	if !known && len(metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRepeated)) > 0 {
		return nil, errkind.WithField(errkind.Errorf(errkind.NotFound, "no operation has this request ID"), wire.HeaderRequest)
	}
	if !known || request == "" {
		text, err := s.text(stream.Context(), what.config)
		if err != nil {
			return nil, err
		}
		op = s.enter(request, what, text)
	}
	s.mu.Lock()
	lose := s.config.LoseAnswers > 0
	if lose {
		s.config.LoseAnswers--
	}
	s.mu.Unlock()
	if lose {
		s.breakConnections()
		return nil, status.Error(codes.Unavailable, "the answer is lost")
	}
	return op, nil
}

// requestOf returns the method and the request name of a call, or "" without request-ids.
func (s *Server) requestOf(stream grpc.ServerStream) string {
	given := metadata.ValueFromIncomingContext(stream.Context(), wire.HeaderRequest)
	if len(given) != 1 || !s.can(wire.RequestIDs) {
		return ""
	}
	method, _ := grpc.MethodFromServerStream(stream)
	return method + " " + given[0]
}

// enter adds the operation of a request.
func (s *Server) enter(request string, what start, config string) *operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := &operation{callerReboots: what.callerReboots, Operation: &operationsv1.Operation{
		Id: "op-" + strconv.Itoa(len(s.operations)+1), Kind: what.kind, Summary: what.summary, CreateTime: timestamppb.Now(),
		Phase: operationsv1.Phase_PHASE_DOING,
	}}
	s.operations = append(s.operations, op)
	s.requests[request] = op
	if what.config != nil {
		s.configs = append(s.configs, config)
	}
	if upload := what.source.GetUpload(); upload != nil {
		go s.receive(op, upload.GetSize(), what.next)
	} else {
		s.play(op, s.config.Script)
	}
	return op
}

// play adds events, up to one that waits for a reboot. The caller holds s.mu.
func (s *Server) play(op *operation, events []*operationsv1.Event) {
	for i, e := range events {
		s.add(op, proto.CloneOf(e))
		if e.GetChange().GetWaiting() == "reboot" {
			op.rest = events[i+1:]
			return
		}
	}
}

// add adds an event to an operation. The caller holds s.mu.
func (s *Server) add(op *operation, e *operationsv1.Event) {
	e.OperationId, e.Sequence = op.GetId(), uint64(len(op.events)+1)
	if e.Phase == 0 {
		e.Phase = operationsv1.Phase_PHASE_DOING
	}
	if e.Time == nil {
		e.Time = timestamppb.Now()
	}
	op.events = append(op.events, e)
	op.Waiting = e.GetChange().GetWaiting()
	op.Phase, op.Step, op.LastSequence, op.UpdateTime = e.GetPhase(), e.GetStep(), e.GetSequence(), e.GetTime()
	if f := e.GetChange().GetFailure(); f != nil {
		op.Failure = f
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) find(id string) (*operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.operations {
		if op.GetId() == id {
			return op, nil
		}
	}
	return nil, errkind.Errorf(errkind.NotFound, "there is no operation %s", id)
}

// cancel ends an operation as undone, at once.
func (s *Server) cancel(op *operation) (*operationsv1.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended(op.GetPhase()) {
		return nil, errkind.Errorf(errkind.Precondition, "cancel operation %s: it has ended", op.GetId())
	}
	if s.cancels++; s.config.IgnoreCancel {
		return proto.CloneOf(op.Operation), nil
	}
	failure := &operationsv1.Failure{Reason: "CANCELLED", Message: op.GetSummary() + ": cancelled by request"}
	s.add(op, Step(operationsv1.Phase_PHASE_UNDOING, op.GetStep(), failure))
	s.add(op, Step(operationsv1.Phase_PHASE_UNDONE, op.GetStep(), failure))
	return proto.CloneOf(op.Operation), nil
}

func ended(p operationsv1.Phase) bool {
	return p == operationsv1.Phase_PHASE_DONE || p == operationsv1.Phase_PHASE_UNDONE || p == operationsv1.Phase_PHASE_STUCK
}

// Step returns the event: the operation enters a phase or a step. failure may be nil.
func Step(phase operationsv1.Phase, step string, failure *operationsv1.Failure) *operationsv1.Event {
	return &operationsv1.Event{Phase: phase, Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Failure: failure}}}
}

// Restart returns the event: the operation waits for a restart of the daemon.
func Restart(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "restart"}}}
}

// Reboot returns the event: the operation waits for a reboot of the host.
func Reboot(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "reboot"}}}
}

// Progress returns the event: step has done of total bytes.
func Progress(step string, done, total int64) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: done, Total: total}}}
}

// Part returns the event: part has done of total bytes, and the whole step has allDone of
// allTotal.
func Part(step, part string, done, total, allDone, allTotal int64) *operationsv1.Event {
	e := Progress(step, allDone, allTotal)
	e.GetProgress().Part, e.GetProgress().PartDone, e.GetProgress().PartTotal = part, done, total
	return e
}

// Log returns the event: step logs a message.
func Log(step string, severity operationsv1.Severity, message string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: severity, Message: message}}}
}
