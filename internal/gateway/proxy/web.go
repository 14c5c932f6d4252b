package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"log/slog"
)

// The protocols of ALPN (RFC 7301). Without ALPN the first bytes decide.
const (
	protoHTTP = "http/1.1"
	protoGRPC = "h2"
)

// preface begins each connection of HTTP/2 (RFC 9113, 3.4); no request of HTTP/1.1 begins so.
const preface = "PRI * HTTP/2.0"

// idleTime is how long a connection of HTTP waits for the next request.
const idleTime = time.Minute

// web is the server of one HTTP connection.
type web struct {
	server *http.Server
	stop   context.CancelFunc // ends WebSockets
}

// speaksHTTP reports whether the caller speaks HTTP/1.1. It returns a connection that still has
// all bytes of the caller, or nil if reading the first bytes failed.
func (c *session) speaksHTTP(conn net.Conn) (bool, net.Conn) {
	if t, ok := conn.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "" {
		return t.ConnectionState().NegotiatedProtocol == protoHTTP, conn
	}
	first := make([]byte, len(preface))
	_ = conn.SetReadDeadline(time.Now().Add(c.server.state.Load().config.Limits.HandshakeTime))
	if _, err := io.ReadFull(conn, first); err != nil {
		c.server.refused.warn("connection ended", "peer", c.peer.String(), "reason", err)
		return false, nil
	}
	_ = conn.SetReadDeadline(time.Time{})
	return string(first) != preface, &peeked{Conn: conn, first: bytes.NewReader(first)}
}

// peeked is a connection whose Read returns the bytes of first, which have been read already, and
// then those of Conn.
type peeked struct {
	net.Conn
	first *bytes.Reader
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.first.Len() > 0 {
		return p.first.Read(b)
	}
	return p.Conn.Read(b)
}

// serveHTTP begins to serve a connection of HTTP, and returns.
func (c *session) serveHTTP(conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &web{stop: cancel, server: &http.Server{
		Handler:           c.server.rpc.Handler(&gate{c}, ctx),
		ReadHeaderTimeout: c.server.state.Load().config.Limits.HandshakeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}}
	c.mu.Lock()
	c.web = w
	c.mu.Unlock()
	c.awaitLogin()
	// Serve returns when the listener has no second connection.
	_ = w.server.Serve(&once{conn: &closing{Conn: conn, closed: func() { cancel(); c.end() }}, addr: c.raw.LocalAddr()})
}

// drain ends the connection: a WebSocket at once, otherwise when its running request has been
// answered.
func (w *web) drain() {
	w.stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	_ = w.server.Shutdown(ctx) // the server of the gateway ends what remains
}
