// Package proxy is the gateway: it accepts TLS connections of remote callers, finds out who
// they are, and passes the calls that they may make to tridentd.
//
// It knows no message of the API. A call is passed on as it is, in both directions:
// metadata, deadline, messages, status, trailers. A connection of a caller is one connection
// to tridentd, made with the first permitted call and ended together with it, because
// handles and what a client states in its handshake belong to a connection.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/audit"
	"github.com/trident-project/trident/internal/gateway/jsonrpc"
	"github.com/trident-project/trident/internal/gateway/limit"
	"github.com/trident-project/trident/internal/gateway/password"
)

const (
	// reloadEvery is how often the gateway looks for changed files and for logins that
	// have expired.
	reloadEvery = 2 * time.Second
	// maxHalfOpen bounds the connections of all sources that have not logged in.
	maxHalfOpen = 256
	// stopTime is how long calls may take to end when the gateway stops.
	stopTime = 5 * time.Second
)

// A Server is one gateway.
type Server struct {
	path    string
	logger  *slog.Logger
	audit   *audit.Log
	callers *limit.Callers
	logins  *limit.Logins
	// strangers bounds the lines of the audit log about callers who could not log in: they
	// must not push other lines out of it.
	strangers *limit.Callers
	refused   *quietLog
	rpc       *jsonrpc.Server
	page      http.Handler
	checker   *password.Checker
	people    *password.Sessions
	console   *password.Console
	wake      string
	now       func() time.Time
	// refusedTime is how long a connection that cannot log in gets answers with the reason.
	refusedTime time.Duration
	// againTime is how quickly a call has to fail to be repeated, and how long it then waits for
	// a connection. A tridentd that could not be reached for longer will not be reached at once.
	againTime time.Duration

	used      atomic.Uint64 // connections and calls so far
	state     atomic.Pointer[state]
	reloading sync.Mutex

	mu       sync.Mutex
	sessions map[*session]struct{}
	halfOpen map[netip.Prefix]int // connections that have not logged in, by source
	waiting  int                  // the sum of halfOpen
	stopped  bool
	idle     sync.WaitGroup // of sessions
}

// Files are those of a gateway.
type Files struct {
	Settings string
	Wake     string // which the gateway writes to have tridentd started; empty to start nothing
	Load     string // with the history of the load; empty to have it in memory alone
	Console  string // with the console token; empty to accept none
}

// New returns a gateway. page answers the requests of browsers for files.
func New(files Files, page http.Handler, logger *slog.Logger) (*Server, error) {
	st, err := readState(files.Settings)
	if err != nil {
		return nil, err
	}
	rpc, err := jsonrpc.New(files.Load, logger)
	if err != nil {
		return nil, err
	}
	c := st.config
	log, err := audit.Open(c.Audit.File, c.Audit.MaxSize, c.Audit.Keep)
	if err != nil {
		return nil, err
	}
	s := &Server{
		path: files.Settings, wake: files.Wake, rpc: rpc, checker: password.NewChecker(), people: password.NewSessions(), console: password.NewConsole(files.Console), logger: logger, audit: log, now: time.Now, refusedTime: 5 * time.Second, againTime: 5 * time.Second, refused: newQuietLog(logger),
		callers: limit.NewCallers(boundsOf(st)), logins: limit.NewLogins(c.Limits.FailedLogins),
		strangers: limit.NewCallers(limit.Bounds{CallsPerSecond: 1, Streams: 1}),
		page:      page,
		sessions:  map[*session]struct{}{}, halfOpen: map[netip.Prefix]int{},
	}
	s.state.Store(st)
	return s, nil
}

// Listen opens the addresses of the settings. The caller passes the listeners to Serve.
func (s *Server) Listen(ctx context.Context) ([]net.Listener, error) {
	var out []net.Listener
	for _, address := range s.state.Load().config.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, errkind.WithHint(fmt.Errorf("listen on %s: %w", address, err), "choose another address in listen of %s", s.path)
		}
		out = append(out, l)
	}
	return out, nil
}

// Serve serves the listeners until ctx ends. Then it refuses new calls, waits for the
// running ones, and returns nil. A new address in the settings needs a restart.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var accepting sync.WaitGroup
	for _, l := range listeners {
		s.logger.Info("the gateway serves", "address", l.Addr().String())
		accepting.Go(func() {
			if err := s.accept(ctx, l); err != nil {
				cancel(err)
			}
		})
	}
	go s.watch(ctx)
	go s.rpc.Run(ctx)
	<-ctx.Done()
	for _, l := range listeners {
		_ = l.Close()
	}
	accepting.Wait()
	s.stop()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, s.audit.Close())
}

func (s *Server) accept(ctx context.Context, l net.Listener) error {
	for {
		raw, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		case err != nil: // above all too many open files: connections end meanwhile
			s.refused.warn("accept a connection", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		s.admit(raw)
	}
}

// admit begins a session for a connection if there is a place for it.
func (s *Server) admit(raw net.Conn) {
	peer, _ := netip.ParseAddrPort(raw.RemoteAddr().String())
	limits := s.state.Load().config.Limits
	source := limit.Source(peer.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	var why string
	switch {
	case s.stopped:
		why = "the gateway stops"
	case len(s.sessions) >= limits.Connections:
		why = "all connections are in use"
	case s.halfOpen[source] >= limits.PerSource:
		why = "too many connections of this source have not logged in"
	case s.waiting >= maxHalfOpen:
		why = "too many connections have not logged in"
	default:
		s.used.Add(1)
		c := newSession(s, raw, peer)
		s.sessions[c] = struct{}{}
		s.halfOpen[source]++
		s.waiting++
		s.idle.Add(1) // until the end of the session
		go c.run()
		return
	}
	s.refused.warn("connection refused", "peer", peer.String(), "reason", why)
	_ = raw.Close()
}

// leaveHalfOpen gives back the place of a connection that has logged in or ended.
func (s *Server) leaveHalfOpen(peer netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := limit.Source(peer.Addr())
	s.waiting--
	if s.halfOpen[source]--; s.halfOpen[source] == 0 {
		delete(s.halfOpen, source)
	}
}

func (s *Server) forget(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
}

func (s *Server) open() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*session
	for c := range s.sessions {
		out = append(out, c)
	}
	return out
}

// stop ends all sessions: those with running calls after stopTime at the latest.
func (s *Server) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	for _, c := range s.open() {
		c.drain()
	}
	done := make(chan struct{})
	go func() { s.idle.Wait(); close(done) }()
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	for _, c := range s.open() {
		c.abort()
	}
	<-done
}
