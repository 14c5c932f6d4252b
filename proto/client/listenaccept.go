package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// maxName is the longest identity, in bytes: that of a DNS name.
const maxName = 253

func isName(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(c rune) bool {
		return c == unicode.ReplacementChar || unicode.IsSpace(c) || !unicode.IsPrint(c)
	})
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// acceptPause is the pause after an error of accept(2), such as too many open files.
const acceptPause = 100 * time.Millisecond

// serve accepts connections until the listener is closed. Each handshake has a goroutine of
// its own, so that no peer delays another.
func (l *Listener) serve() {
	for {
		conn, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.logger.Error("accept the connection of a host", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		if !l.begin(conn) {
			continue
		}
		l.running.Go(func() {
			host, ok := l.shakeHands(conn)
			if l.finished(conn); ok {
				l.offer(host)
			}
		})
	}
}

// begin counts a handshake. It closes the oldest one if there are too many, and conn if the
// listener is closed.
func (l *Listener) begin(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	if len(l.handshakes) >= l.halfOpen {
		oldest := l.handshakes[0]
		l.handshakes = slices.Delete(l.handshakes, 0, 1)
		l.logger.Warn("a connection is closed: too many handshakes are unfinished", "peer", oldest.RemoteAddr(), "most", l.halfOpen)
		_ = oldest.Close()
	}
	l.handshakes = append(l.handshakes, conn)
	return true
}

func (l *Listener) finished(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshakes = slices.DeleteFunc(l.handshakes, func(other net.Conn) bool { return other == conn })
}

// shakeHands completes the TLS handshake and identifies the host. If that fails it logs the
// reason, which the peer gets as a TLS alert, and closes conn.
func (l *Listener) shakeHands(conn net.Conn) (HostConn, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), l.limit)
	defer cancel()
	secured := tls.Server(conn, l.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		if !errors.Is(err, net.ErrClosed) { // else begin or Close has closed it
			l.logger.Warn("a connection is refused", "peer", conn.RemoteAddr(), "reason", refusal(ctx, err, l.limit))
		}
		return HostConn{}, false
	}
	cert := secured.ConnectionState().PeerCertificates[0]
	host := HostConn{Conn: secured, Identity: l.identify(cert), Certificate: cert}
	if host.Identity == "" {
		_ = secured.Close()
		l.logger.Warn("a connection is refused", "peer", conn.RemoteAddr(), "reason", "its certificate names no host", "subject", cert.Subject.String())
		return HostConn{}, false
	}
	l.logger.Debug("a host has connected", "peer", conn.RemoteAddr(), "host", host.Identity)
	l.connected(host)
	return host, true
}

// refusal returns why a handshake has failed, for people.
func refusal(ctx context.Context, err error, limit time.Duration) string {
	switch {
	case ctx.Err() != nil:
		return "no TLS handshake within " + limit.String()
	case errors.Is(err, io.EOF):
		return "the peer has closed the connection before a TLS handshake"
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return "the peer does not speak TLS"
	}
	return err.Error()
}

// waiting is a connection that nobody uses yet. A goroutine reads from it, to notice its end.
type waiting struct {
	conn  HostConn
	taken atomic.Bool
	ended chan struct{} // closed when watch has returned
	early [1]byte       // what the host has sent before it was asked
	count int
	err   error
}

// watch reads from the connection until it ends, which it reports, or until handOver takes
// it. An agent of upstream's connects to its daemon at once, whose first byte comes then.
func (w *waiting) watch() (ended bool) {
	defer close(w.ended)
	w.count, w.err = w.conn.Read(w.early[:])
	if w.taken.Load() || w.count > 0 {
		return false
	}
	_ = w.conn.Close()
	return true
}

// handOver ends watch and returns the connection, unless it has ended.
func (w *waiting) handOver() (HostConn, bool) {
	w.taken.Store(true)
	// After the error of a deadline a read goes on where it was (crypto/tls).
	if err := w.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return HostConn{}, false
	}
	<-w.ended
	var timeout net.Error
	if w.count == 0 && !(errors.As(w.err, &timeout) && timeout.Timeout()) {
		_ = w.conn.Close()
		return HostConn{}, false
	}
	if err := w.conn.SetReadDeadline(time.Time{}); err != nil {
		return HostConn{}, false
	}
	host := w.conn
	if w.count > 0 {
		host.Conn = &resumed{Conn: host.Conn, early: w.early[:w.count]}
	}
	return host, true
}

// resumed is a connection of which some bytes were read already.
type resumed struct {
	net.Conn
	early []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.early) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.early)
	r.early = r.early[n:]
	return n, nil
}
