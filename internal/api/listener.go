package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// settleTime bounds the wait for connections that were accepted but that the
// server has not begun to serve.
const settleTime = time.Second

// maxConnections bounds how many callers there are at a time.
const maxConnections = 64

// A Listener accepts from a unix socket, asks the kernel who the peer is, and
// bounds how many there are.
type Listener struct {
	*net.UnixListener
	max    int
	logger *slog.Logger

	mu   sync.Mutex
	open int
	// raw counts connections that were accepted and not yet taken over by the
	// server. A server told to stop drops those without a word.
	raw     int
	settled chan struct{} // closed when raw is 0 after the socket was closed
	closed  bool
}

// Listen wraps a socket for Serve.
func Listen(l *net.UnixListener, logger *slog.Logger) *Listener {
	return &Listener{UnixListener: l, max: maxConnections, logger: logger, settled: make(chan struct{})}
}

// conn is a connection with a known peer.
type conn struct {
	*net.UnixConn
	peer    peerInfo
	session *session
	taken   func() // the server has taken over
	gone    func()
}

func (c *conn) Close() error {
	c.taken()
	c.gone()
	return c.UnixConn.Close()
}

// Accept returns the next connection. Beyond the limit connections are closed at
// once: a caller that is told so now is better off than one that hangs. The
// process itself is let in always, or its own health check could be starved.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(c)
		switch {
		case err != nil:
			l.logger.Warn("connection refused", "error", err)
		case l.admit(who):
			session, end := newSession()
			return &conn{
				UnixConn: c, peer: who, session: session,
				taken: sync.OnceFunc(func() { l.count(0, -1) }),
				gone:  sync.OnceFunc(func() { end(); l.count(-1, 0) }),
			}, nil
		default:
			l.logger.Warn("connection refused: too many are open", "limit", l.max, "uid", who.uid, "pid", who.pid)
		}
		_ = c.Close()
	}
}

func (l *Listener) admit(who peerInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max && !who.self() {
		return false
	}
	l.open++
	l.raw++
	return true
}

func (l *Listener) count(open, raw int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += open
	l.raw += raw
	l.signal()
}

// signal tells settle. The caller holds l.mu.
func (l *Listener) signal() {
	if l.closed && l.raw == 0 {
		select {
		case <-l.settled:
		default:
			close(l.settled)
		}
	}
}

// settle stops accepting and waits until the server has taken over what was
// accepted, so that a caller who came in time is not dropped.
func (l *Listener) settle() {
	_ = l.Close()
	l.mu.Lock()
	l.closed = true
	l.signal()
	l.mu.Unlock()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-l.settled:
	case <-timer.C:
	}
}

// peerInfo is who is at the other end of a connection, as the kernel says.
type peerInfo struct {
	uid     uint32
	pid     int32
	session *session
}

func (peerInfo) AuthType() string { return "unix-peer" }

// self reports whether the peer is this process.
func (p peerInfo) self() bool { return int(p.pid) == os.Getpid() }

// peerOf reads SO_PEERCRED (unix(7)).
func peerOf(c *net.UnixConn) (peerInfo, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peerInfo{}, fmt.Errorf("read credentials of the peer: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, cerr); err != nil {
		return peerInfo{}, fmt.Errorf("read credentials of the peer: %w", err)
	}
	return peerInfo{uid: cred.Uid, pid: cred.Pid}, nil
}

// peerCredentials hands a connection's peer to the calls made over it. Nothing
// but what a listener has accepted gets through.
type peerCredentials struct{}

func (peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection from %s: not from our unix socket", raw.RemoteAddr().Network())
	}
	c.taken()
	who := c.peer
	who.session = c.session
	return c, who, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
