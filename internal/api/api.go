// Package api serves Trident's gRPC API. It converts requests, calls the services, and
// converts their results. It also limits connections and memory, and logs calls.
//
// One table says who may call what (access.go), another which code an error has
// (errkind/grpckind). A call that takes time begins an operation and streams its events;
// the operation continues if the client disconnects. The API is served on unix sockets
// only, because there the kernel identifies the caller.
package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/selfservice"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

// Limits of one caller. They multiply; maxMemory bounds the product.
const (
	maxStreams    = 100            // per connection: the minimum that RFC 9113, 6.5.2 recommends
	maxMessage    = 1<<20 + 64<<10 // of a request: a chunk or a Host Configuration, and its envelope
	maxAnswer     = 4 << 20
	maxHeaders    = 8 << 10
	handshakeTime = 10 * time.Second
)

// Config has the services that the API calls, and the settings of the server.
type Config struct {
	// Root is the tree of the host that this daemon services: "/" on a host.
	Root    string
	HostID  func() string // returns the public name of the host, or ""
	Version string
	Logger  *slog.Logger
	// The services of a daemon. Without Servicing the server needs none of them, and the
	// methods that do fail with Unsupported.
	Self       *selfservice.Service
	Operations *operation.Runner
	Store      *hoststate.Store // has the recorded status of the host
	Servicing  Servicing
	Updates    Updates
	System     machinev1.SystemServiceServer // reads the running system; nil: its calls are not implemented
	// Control registers the other services of trident.machine.v1; nil: the server has none of them.
	Control Control
	// Fixed, if set, says why this Trident cannot be replaced by another version. The daemon
	// then lacks the capabilities of wire.SelfServicing.
	Fixed error
	// NoSystemd, if set, says why the calls that need the systemd of the host cannot work. The
	// daemon then does not have their capabilities.
	NoSystemd error
	// AlsoUID may call as root may, for tests that do not run as root; 0 means nobody.
	AlsoUID uint32
	// Policy decides about the calls on the socket for gateways; nil refuses all of them.
	Policy Policy
	// The server calls Begin for each call from another process and for each handle, and
	// end at its end.
	Begin func() (end func())
	// Stats, if set, gets each connection and each call first.
	Stats stats.Handler
}

// Control has the calls of package control.
type Control interface {
	// Register registers its services. caller returns the process that makes the call of a
	// context, or 0.
	Register(r grpc.ServiceRegistrar, caller func(context.Context) int32)
}

// A Server serves the API on one socket.
type Server struct {
	grpc    *grpc.Server
	health  *health.Server
	gate    *gate
	handles *handles.Table
}

// New returns a server of the whole API.
func New(c Config) *Server {
	g := newGate(c)
	s := &Server{gate: g, health: health.NewServer(), grpc: grpc.NewServer(
		seenBy(c.Stats),
		grpc.Creds(peerCredentials{}),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxAnswer),
		// Windows have a fixed size: a caller cannot send ahead of what a method reads.
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(maxMessage),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTime),
		// A peer behind a forwarded socket can disappear without closing it.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)}
	s.handles = handles.New(c.Root, g.begin)
	services, parser := registrar{s.grpc, g}, newParser()
	registerUpstream(services, c, s.handles, parser)
	setup := &setupServer{version: c.Version, hostID: c.HostID, daemon: rand.Text(), missing: missingOf(c)}
	setup.can = capabilities(setup.missing, g.hasHost)
	operationsv1.RegisterOperationsServiceServer(services, &operationsServer{runner: c.Operations})
	selfv1.RegisterSelfServiceServer(services, &selfServer{self: c.Self, updates: c.Updates, runner: c.Operations, handles: s.handles})
	handlesv1.RegisterHandleServiceServer(services, &handleServer{handles: s.handles})
	hostv1.RegisterHostServiceServer(services, &hostServer{host: c.Servicing, keeper: c.Servicing, store: c.Store, runner: c.Operations, handles: s.handles, parser: parser})
	machinev1.RegisterSystemServiceServer(services, systemOf(c))
	machinev1.RegisterResetServiceServer(services, &resetServer{host: c.Servicing, runner: c.Operations})
	if c.Control != nil {
		c.Control.Register(services, callerOf)
	}
	setupv1.RegisterSetupServiceServer(services, setup)
	healthpb.RegisterHealthServer(services, s.health)
	reflection.Register(services)
	setup.packages = packagesOf(s.grpc)
	return s
}

// systemOf returns the service that reads the running system.
func systemOf(c Config) machinev1.SystemServiceServer {
	if c.System == nil {
		return machinev1.UnimplementedSystemServiceServer{}
	}
	return c.System
}

// seenBy returns the option for a stats handler; gRPC complains about a nil handler.
func seenBy(h stats.Handler) grpc.ServerOption {
	if h == nil {
		return grpc.EmptyServerOption{}
	}
	return grpc.StatsHandler(h)
}

// registerUpstream registers upstream's services.
func registerUpstream(s grpc.ServiceRegistrar, c Config, table *handles.Table, parser *parser) {
	servicer := servicer{host: c.Servicing, results: c.Servicing, runner: c.Operations, handles: table, parser: parser}
	tridentv1.RegisterVersionServiceServer(s, versionServer{version: c.Version})
	tridentv1.RegisterUpdateServiceServer(s, &updateServer{servicer: servicer})
	tridentv1.RegisterCommitServiceServer(s, &commitServer{servicer: servicer})
	tridentv1preview.RegisterRollbackServiceServer(s, &rollbackServer{servicer: servicer, store: c.Store})
	tridentv1preview.RegisterStatusServiceServer(s, &statusServer{store: c.Store})
	tridentv1preview.RegisterValidationServiceServer(s, &validationServer{host: c.Servicing, parser: parser})
	tridentv1.RegisterStreamingServiceServer(s, &streamingServer{servicer: servicer})
	tridentv1preview.RegisterCommitServiceServer(s, &checkServer{servicer: servicer})
	tridentv1preview.RegisterInstallServiceServer(s, &installServer{servicer: servicer})
	tridentv1preview.RegisterRebuildRaidServiceServer(s, &raidServer{servicer: servicer, arrays: c.Servicing})
}

// Serve serves l until Stop. If Stop came first it returns at once.
func (s *Server) Serve(l *Listener) error {
	err := s.grpc.Serve(l)
	if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// Drain makes health checks report that the server is about to stop.
func (s *Server) Drain() { s.health.Shutdown() }

// Stop accepts no new connections and waits for the running calls to end; when ctx ends
// it cancels them. Call it once, with all listeners.
func (s *Server) Stop(ctx context.Context, listeners ...*Listener) {
	s.health.Shutdown()
	s.gate.endWatches()
	for _, l := range listeners {
		l.settle()
	}
	done := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}
