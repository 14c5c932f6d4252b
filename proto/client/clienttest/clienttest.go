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
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
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
	// Steps has the names of the steps of every operation, in order. The server derives their
	// states from the events.
	Steps []string
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
	Host *hostv1.GetHostResponse
	// Control has the services about units, logs, files, captures, power and mounts; the calls
	// of a nil one are not implemented.
	Control     Control
	Findings    []*hostv1.Finding
	Plan        *hostv1.PlanUpdateResponse
	InstallPlan *hostv1.PlanInstallResponse
	RebuildPlan *hostv1.PlanRebuildResponse
	// ResetPlan is the plan of a reset of the host; Reset needs its confirmation.
	ResetPlan *machinev1.PlanResetResponse
	// RecoveryKey is the recovery key of any installation; nil: there is none.
	RecoveryKey []byte
	// System serves trident.machine.v1.SystemService; nil: its calls are not implemented.
	System machinev1.SystemServiceServer
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
		system := s.config.System
		if system == nil {
			system = machinev1.UnimplementedSystemServiceServer{}
		}
		machinev1.RegisterSystemServiceServer(g, system)
		machinev1.RegisterResetServiceServer(g, resetServer{Server: s})
		s.registerControl(g)
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
