// Package api serves Trident's gRPC API: it converts, calls, and converts back,
// and does nothing else.
//
// What a caller may do is decided in one table (access.go), how an error is
// told in another (errkind/grpckind). Everything that takes time belongs to the
// operation runner: a stream only shows it, so a client that stalls or goes away
// changes nothing. Only unix sockets are served, because who calls is what the
// kernel says about the peer.
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
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

// Limits of what one caller can take. They multiply; maxMemory bounds what comes
// of it.
const (
	maxStreams    = 100            // per connection: the least that RFC 9113, 6.5.2 recommends
	maxMessage    = 1<<20 + 64<<10 // of a request: a chunk, or a Host Configuration, and what is around it
	maxAnswer     = 4 << 20
	maxHeaders    = 8 << 10
	handshakeTime = 10 * time.Second
)

// Config is what the API is served from.
type Config struct {
	// Root is the tree that this daemon services: "/" on a host.
	Root       string
	Version    string
	Self       *selfservice.Service
	Operations *operation.Runner
	// Store has what is recorded of the host.
	Store *hoststate.Store
	// Servicing changes the host; without it, what would do so says that it cannot.
	Servicing Servicing
	Logger    *slog.Logger
	// AlsoUID may call as root may. For tests, which need not run as root; 0
	// adds nobody.
	AlsoUID uint32
	// Begin is told of each call from outside; what it returns, of its end.
	Begin func() (end func())
	// Stats, if set, sees each connection and each call before anything else does.
	Stats stats.Handler
}

// A Server serves the API on one socket.
type Server struct {
	grpc    *grpc.Server
	health  *health.Server
	gate    *gate
	handles *handles.Table
}

// New returns a server of everything in the API.
func New(c Config) *Server {
	can := wire.Capabilities(c.Servicing != nil)
	if c.Servicing == nil {
		c.Servicing = noServicing{}
	}
	g := newGate(c)
	s := &Server{gate: g, health: health.NewServer(), grpc: grpc.NewServer(
		seenBy(c.Stats),
		grpc.Creds(peerCredentials{}),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxAnswer),
		// Windows do not grow: what a method does not read, its caller cannot send.
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(maxMessage),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTime),
		// A peer behind a forwarded socket can vanish without a word.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)}
	s.handles = handles.New(c.Root, g.begin)
	services, parser := registrar{s.grpc, g}, newParser()
	registerUpstream(services, c, s.handles, parser)
	setup := &setupServer{version: c.Version, root: c.Root, daemon: rand.Text(), can: can}
	operationsv1.RegisterOperationsServiceServer(services, &operationsServer{runner: c.Operations})
	selfv1.RegisterSelfServiceServer(services, &selfServer{self: c.Self, runner: c.Operations, handles: s.handles})
	handlesv1.RegisterHandleServiceServer(services, &handleServer{handles: s.handles})
	hostv1.RegisterHostServiceServer(services, &hostServer{host: c.Servicing, store: c.Store, runner: c.Operations, handles: s.handles, parser: parser})
	setupv1.RegisterSetupServiceServer(services, setup)
	healthpb.RegisterHealthServer(services, s.health)
	reflection.Register(services)
	setup.packages = packagesOf(s.grpc)
	return s
}

// seenBy is the option for a stats handler; gRPC complains of one that is nil.
func seenBy(h stats.Handler) grpc.ServerOption {
	if h == nil {
		return grpc.EmptyServerOption{}
	}
	return grpc.StatsHandler(h)
}

// registerUpstream registers upstream's services. Of those that are not built
// yet, the access table has the sentence that each method answers with.
func registerUpstream(s grpc.ServiceRegistrar, c Config, table *handles.Table, parser *parser) {
	servicer := servicer{host: c.Servicing, runner: c.Operations, handles: table, parser: parser}
	tridentv1.RegisterVersionServiceServer(s, versionServer{version: c.Version})
	tridentv1.RegisterUpdateServiceServer(s, &updateServer{servicer: servicer})
	tridentv1.RegisterCommitServiceServer(s, &commitServer{servicer: servicer})
	tridentv1preview.RegisterRollbackServiceServer(s, &rollbackServer{servicer: servicer, store: c.Store})
	tridentv1preview.RegisterStatusServiceServer(s, &statusServer{store: c.Store})
	tridentv1preview.RegisterValidationServiceServer(s, &validationServer{host: c.Servicing, parser: parser})
	tridentv1.RegisterStreamingServiceServer(s, &streamingServer{servicer: servicer})
	tridentv1preview.RegisterCommitServiceServer(s, &checkServer{servicer: servicer})
	tridentv1preview.RegisterInstallServiceServer(s, &installServer{servicer: servicer})
	tridentv1preview.RegisterRebuildRaidServiceServer(s, tridentv1preview.UnimplementedRebuildRaidServiceServer{})
}

// Serve answers calls until Stop, which may also have come before.
func (s *Server) Serve(l *Listener) error {
	err := s.grpc.Serve(l)
	if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// Drain tells health checks that the server is about to stop.
func (s *Server) Drain() { s.health.Shutdown() }

// Stop takes no new connections and lets the calls that run end by themselves
// until ctx ends; then it cuts them off. Call it once.
func (s *Server) Stop(ctx context.Context, l *Listener) {
	s.health.Shutdown()
	s.gate.endWatches()
	l.settle()
	done := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}
