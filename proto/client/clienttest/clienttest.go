// Package clienttest is a Trident in memory, for the tests of programs that use
// proto/client.
//
// It speaks the real API over real gRPC and knows nothing of hosts: what an
// operation does is a script of events. It can restart and lose connections as
// often as one likes, which is what such programs have to be tested against.
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

// Config is how a Server behaves. The zero value is a daemon of today, at whose
// hands every operation goes on until it is cancelled.
type Config struct {
	// Version is what it says it is, and NextVersion what it says after an
	// event by which an operation waits for a restart, and after Restart.
	Version, NextVersion string
	// HostID is which host it says it is on; empty is a host like any other.
	HostID string
	// Capabilities are what it says it can, and all that it does of those that are
	// about calls: request-ids and handles. Nil is everything.
	Capabilities []string
	// Upstream has it serve what upstream's daemon does, and nothing else:
	// no handshake, and servicing without an operation that could be found again.
	Upstream bool

	// Script has the events of every operation that begins, without ID and
	// sequence number; after an upload, they happen once it is whole. After an
	// event by which the operation waits for a reboot the next ones happen in the
	// next boot; see Restart. An operation whose last event is not the end of it
	// goes on until it is cancelled.
	Script []*operationsv1.Event
	// Completed is how servicing ends in upstream's words. Nil is a success, or the
	// failure of the operation.
	Completed *tridentv1.Completed
	// NothingToDo lets servicing end without an operation.
	NothingToDo bool
	// Refuse, if set, is what the methods that begin an operation answer.
	Refuse error
	// IgnoreCancel lets operations go on that were cancelled.
	IgnoreCancel bool
	// Drop ends each stream after so many events as a daemon that goes away
	// does, or with its connection in every other case. 0 is never.
	Drop int
	// LoseAnswers has so many calls that begin an operation end with their
	// connection, after the operation has begun and before anything was said.
	LoseAnswers int

	// Status and History are what it answers of Trident itself.
	Status  *selfv1.GetStatusResponse
	History []*selfv1.HistoryEntry
	// Host, Findings, Plan and InstallPlan are what it answers of the host and of
	// any Host Configuration.
	Host        *hostv1.GetHostResponse
	Findings    []*hostv1.Finding
	Plan        *hostv1.PlanUpdateResponse
	InstallPlan *hostv1.PlanInstallResponse
	// Operations are there from the start and have ended.
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
	rest          []*operationsv1.Event // what happens in the next boot
	callerReboots bool
	passed        uint64 // the last event with which a daemon went
	boot          uint64 // the last event before this boot
}

// New returns a server that serves nothing yet.
func New(config Config) *Server {
	if config.Status == nil {
		config.Status = &selfv1.GetStatusResponse{RunningVersion: config.Version}
	}
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

// Listen serves a unix socket until Close.
func (s *Server) Listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.Serve(l)
	return nil
}

// Dial is for client.WithDialer: a connection in memory.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.Serve(&once{conn: ours, closed: make(chan struct{})})
	return theirs, nil
}

// Serve serves a listener, such as one of TLS, until Close.
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

// Restart ends the daemon and starts the next one: all connections are lost, what
// was opened over them is gone, and operations that wait for a restart or a
// reboot go on.
func (s *Server) Restart() {
	s.mu.Lock()
	s.next()
	s.mu.Unlock()
	s.breakConnections()
}

// Drain has every connection take no more calls, as that of a daemon that is about
// to go, and a socket of Listen be closed. Calls that run go on; it returns when
// they have ended.
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

// next is the next daemon. The caller holds s.mu.
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

// Close ends all connections.
func (s *Server) Close() {
	s.mu.Lock()
	servers := s.servers
	s.mu.Unlock()
	for _, g := range servers {
		g.Stop()
	}
}

// Uploads returns what was uploaded, in order.
func (s *Server) Uploads() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uploads)
}

// Configs returns the Host Configurations that were to be brought into effect, in
// order, however they came.
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

// Cancels returns how often an operation was cancelled.
func (s *Server) Cancels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

// start is a call that begins an operation.
type start struct {
	kind, summary string
	source        *selfv1.Source
	next          func() ([]byte, error) // of an upload
	callerReboots bool
	config        *tridentv1.HostConfiguration
}

// begin adds an operation and plays its script, after the upload if that is the
// source. A request that has a name is begun once.
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
		return nil, errkind.WithField(errkind.Errorf(errkind.NotFound, "no operation is known of this request"), wire.HeaderRequest)
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

// requestOf is the name of a call, if it has one that counts.
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

// play lets events happen, up to a reboot. The caller holds s.mu.
func (s *Server) play(op *operation, events []*operationsv1.Event) {
	for i, e := range events {
		s.add(op, proto.CloneOf(e))
		if e.GetChange().GetWaiting() == "reboot" {
			op.rest = events[i+1:]
			return
		}
	}
}

// add lets an event happen. The caller holds s.mu.
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

// cancel takes an operation back at once.
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

// Step is the event of an operation that comes to a step or a phase.
func Step(phase operationsv1.Phase, step string, failure *operationsv1.Failure) *operationsv1.Event {
	return &operationsv1.Event{Phase: phase, Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Failure: failure}}}
}

// Restart is the event of an operation that waits for one.
func Restart(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "restart"}}}
}

// Reboot is the event of an operation that waits for one.
func Reboot(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "reboot"}}}
}

// Progress is the event of a step that is so far.
func Progress(step string, done, total int64) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: done, Total: total}}}
}

// Part is the event of a step one part of which is so far, and so the whole.
func Part(step, part string, done, total, allDone, allTotal int64) *operationsv1.Event {
	e := Progress(step, allDone, allTotal)
	e.GetProgress().Part, e.GetProgress().PartDone, e.GetProgress().PartTotal = part, done, total
	return e
}

// Log is the event of a step that has something to say.
func Log(step string, severity operationsv1.Severity, message string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: severity, Message: message}}}
}
