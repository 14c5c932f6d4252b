package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/trident-project/trident/internal/gateway/rights"
)

// Limits of one connection, those of tridentd where tridentd has one.
const (
	maxStreams = 100
	maxMessage = 1<<20 + 64<<10
	maxAnswer  = 4 << 20
	maxHeaders = 8 << 10
	// streamWindow is how many bytes a caller can send ahead on one stream: enough for
	// 20 MiB/s at 50 ms.
	streamWindow = 1 << 20
)

// session is one connection of a caller. It has a server of its own, for gRPC or HTTP, so that it
// can be drained without the other connections.
type session struct {
	server *Server
	raw    net.Conn
	peer   netip.AddrPort
	grpc   *grpc.Server // set before the first call, under mu; nil for HTTP
	web    *web         // the same for HTTP; nil for gRPC
	end    func()       // gives back what the connection has used; gRPC calls it through the connection
	logged func()       // gives back the place among those that have not logged in

	mu       sync.Mutex
	chain    []*x509.Certificate // of the client certificate
	login    *login              // nil until the caller has logged in
	granted  rights.Set          // of the login, when it was last checked
	refusal  error               // why the client certificate was refused; nil if it was not
	release  func()              // ends the count of the identity's connection
	timer    *time.Timer         // of abortStranger
	upstream *grpc.ClientConn
}

func newSession(s *Server, raw net.Conn, peer netip.AddrPort) *session {
	c := &session{server: s, raw: raw, peer: peer, logged: sync.OnceFunc(func() { s.leaveHalfOpen(peer) })}
	c.end = sync.OnceFunc(func() { go c.close() })
	return c
}

// run makes the TLS connection and begins to serve it. It does not wait for the end of the
// connection, because a waiting goroutine would be a good part of the memory of an idle
// connection; end is called then.
func (c *session) run() {
	var conn net.Conn
	if tlsConn := c.handshake(); tlsConn != nil {
		conn = tlsConn
	} else {
		_ = c.raw.Close()
		c.end()
		return
	}
	isHTTP, conn := c.speaksHTTP(conn)
	switch {
	case conn == nil:
		_ = c.raw.Close()
		c.end()
	case isHTTP:
		c.serveHTTP(conn)
	default:
		c.serveGRPC(conn)
	}
}

// serveGRPC begins to serve a connection of gRPC, and returns.
func (c *session) serveGRPC(conn net.Conn) {
	limits := c.server.state.Load().config.Limits
	g := grpc.NewServer(
		grpc.UnknownServiceHandler(c.handle),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxAnswer),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(maxMessage),
		grpc.ConnectionTimeout(limits.HandshakeTime),
		// TLS reads whole records anyway; a buffer of each connection would be most of its
		// memory.
		grpc.ReadBufferSize(0),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: limits.KeepAliveEvery, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	c.mu.Lock()
	c.grpc = g
	c.mu.Unlock()
	c.awaitLogin()
	// Serve returns when the listener has no second connection.
	_ = g.Serve(&once{conn: &closing{Conn: conn, closed: c.end}, addr: c.raw.LocalAddr()})
}

// handshake makes the TLS connection, and logs in the owner of a client certificate. It returns
// nil if the handshake has failed. A certificate that is refused does not fail it: the calls of
// the connection get the reason.
func (c *session) handshake() *tls.Conn {
	limits := c.server.state.Load().config.Limits
	ctx, cancel := context.WithTimeout(context.Background(), limits.HandshakeTime)
	defer cancel()
	conn := tls.Server(c.raw, c.server.state.Load().tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.logHandshake(ctx, err)
		return nil
	}
	chain := conn.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return conn
	}
	l, err := c.server.state.Load().verify(chain, c.server.now())
	if err == nil {
		err = c.enter(l)
	}
	c.mu.Lock()
	c.chain, c.refusal = chain, err
	c.mu.Unlock()
	if err != nil {
		c.server.refused.warn("login refused", "peer", c.peer.String(), "reason", err)
	}
	return conn
}

// logHandshake logs why a handshake failed. It answers a caller that does not speak TLS in plain
// HTTP.
func (c *session) logHandshake(ctx context.Context, err error) {
	header, isNotTLS := errors.AsType[tls.RecordHeaderError](err)
	message := "handshake refused"
	switch {
	case ctx.Err() != nil:
		message = "handshake refused: it took too long"
	case isNotTLS && header.Conn != nil:
		message = "handshake refused: the caller does not speak TLS"
		_ = header.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\ntrident-gateway speaks over TLS 1.3 only.\n")
	case errors.Is(err, io.EOF):
		message = "handshake refused: the caller ended the connection"
	}
	c.server.refused.warn(message, "peer", c.peer.String(), "reason", err)
}

// drain ends the connection after its running calls, and tells the caller to make new calls
// on another connection. It returns at once.
func (c *session) drain() {
	c.mu.Lock()
	g, w := c.grpc, c.web
	c.mu.Unlock()
	switch {
	case g != nil:
		go g.GracefulStop()
	case w != nil:
		go w.drain()
	default: // in the handshake
		_ = c.raw.Close()
	}
}

// upstreamClosed drains the connection of a caller of gRPC when its connection to tridentd has
// ended. A connection of HTTP stays, so that a WebSocket survives a restart of tridentd.
func (c *session) upstreamClosed() {
	c.mu.Lock()
	w := c.web
	c.mu.Unlock()
	if w == nil {
		c.drain()
	}
}

// abort ends the connection and its calls now.
func (c *session) abort() { _ = c.raw.Close() }

func (c *session) close() {
	defer c.server.idle.Done()
	defer c.server.forget(c)
	defer c.logged()
	c.mu.Lock()
	upstream, release, timer := c.upstream, c.release, c.timer
	c.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	if upstream != nil {
		_ = upstream.Close() // calls drain
	}
	if release != nil {
		release()
	}
}
