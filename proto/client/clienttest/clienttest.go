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
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// Config is how a Server behaves.
type Config struct {
	// Version is what it says it is, and NextVersion what it says after an
	// event by which an operation waits for a restart.
	Version, NextVersion string
	// Script has the events of every operation that begins, without ID and
	// sequence number; after an upload, they happen once it is whole. An operation whose last event is not the end of it goes
	// on until it is cancelled.
	Script []*operationsv1.Event
	// Refuse, if set, is what the methods that begin an operation answer.
	Refuse error
	// IgnoreCancel lets operations go on that were cancelled.
	IgnoreCancel bool
	// Drop ends each stream after so many events as a daemon that goes away
	// does, or with its connection in every other case. 0 is never.
	Drop int
	// Status and History are what it answers.
	Status  *selfv1.GetStatusResponse
	History []*selfv1.HistoryEntry
	// Operations are there from the start and have ended.
	Operations []*operationsv1.Operation
}

// A Server serves the API.
type Server struct {
	config Config

	mu         sync.Mutex
	operations []*operation
	uploads    [][]byte
	drops      int
	cancels    int
	conns      map[net.Conn]bool
	servers    []*grpc.Server
	changed    chan struct{} // closed when events are added
}

type operation struct {
	*operationsv1.Operation
	events []*operationsv1.Event
}

// New returns a server that serves nothing yet.
func New(config Config) *Server {
	if config.Status == nil {
		config.Status = &selfv1.GetStatusResponse{RunningVersion: config.Version}
	}
	s := &Server{config: config, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
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
	s.serve(l)
	return nil
}

// Dial is for client.WithDialer: a connection in memory.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.serve(&once{conn: ours, closed: make(chan struct{})})
	return theirs, nil
}

func (s *Server) serve(l net.Listener) {
	g := grpc.NewServer()
	tridentv1.RegisterVersionServiceServer(g, versionServer{Server: s})
	operationsv1.RegisterOperationsServiceServer(g, operationsServer{Server: s})
	selfv1.RegisterSelfServiceServer(g, selfServer{Server: s})
	s.mu.Lock()
	s.servers = append(s.servers, g)
	s.mu.Unlock()
	go func() { _ = g.Serve(tracked{l, s}) }()
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

// Cancels returns how often an operation was cancelled.
func (s *Server) Cancels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

// begin adds an operation and plays its script, after the upload if that is the
// source.
func (s *Server) begin(kind, summary string, source *selfv1.Source, next func() ([]byte, error)) (*operation, error) {
	if s.config.Refuse != nil {
		return nil, s.config.Refuse
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	op := &operation{Operation: &operationsv1.Operation{
		Id: "op-" + strconv.Itoa(len(s.operations)+1), Kind: kind, Summary: summary, CreateTime: timestamppb.Now(),
		Phase: operationsv1.Phase_PHASE_DOING,
	}}
	s.operations = append(s.operations, op)
	if upload := source.GetUpload(); upload != nil {
		go s.receive(op, upload.GetSize(), next)
	} else {
		s.play(op)
	}
	return op, nil
}

// play lets the events of the script happen. The caller holds s.mu.
func (s *Server) play(op *operation) {
	for _, e := range s.config.Script {
		s.add(op, proto.CloneOf(e))
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
	return nil, status.Errorf(codes.NotFound, "there is no operation %s", id)
}

// cancel takes an operation back at once.
func (s *Server) cancel(op *operation) (*operationsv1.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended(op.GetPhase()) {
		return nil, status.Errorf(codes.FailedPrecondition, "cancel operation %s: it has ended", op.GetId())
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

// Progress is the event of a step that is so far.
func Progress(step string, done, total int64) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: done, Total: total}}}
}

// Log is the event of a step that has something to say.
func Log(step string, severity operationsv1.Severity, message string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: severity, Message: message}}}
}
