package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"

	"github.com/trident-project/trident/internal/errkind"
)

// settleTime bounds the wait for accepted connections that gRPC does not serve yet.
const settleTime = time.Second

// Limits of connections that are refused.
const (
	// At most maxRefused refused connections are served at a time, for refusedTime: each
	// of their calls returns the reason.
	maxRefused          = 16
	maxRefusedOfProcess = 4
	refusedTime         = 2 * time.Second
	// Other refused connections stay open for parkedTime without being served, because a
	// caller that redials at once would keep the daemon busy.
	maxParked  = 4096
	parkedTime = 2 * time.Second
)

// logInterval is the minimum time between two log lines of one kind.
const logInterval = 10 * time.Second

// A Listener accepts connections of a unix socket, gets their peers from the kernel, and
// limits their number.
type Listener struct {
	*net.UnixListener
	logger    *slog.Logger
	roster    *roster
	memory    *memory
	maxParked int
	// isForGateway listeners accept the user gatewayUID only; see ListenForGateway.
	isForGateway bool
	gatewayUID   uint32
	// Log lines that a caller can cause without end.
	logRefused, logIdle, logMemory *rateLimitedLog

	mu      sync.Mutex
	refused map[int32]int // connections that are served although refused, by process ID
	parked  map[*net.UnixConn]*time.Timer
	// raw is the number of accepted connections that gRPC does not serve yet. When gRPC
	// stops it closes those without an answer.
	raw     int
	settled chan struct{} // closed when raw is 0 after the socket was closed
	closed  bool
}

// Listen returns a listener on a socket, for Serve.
func Listen(l *net.UnixListener, logger *slog.Logger) *Listener {
	return &Listener{
		UnixListener: l, logger: logger, roster: newRoster(), memory: newMemory(maxMemory), maxParked: parkingPlaces(),
		logRefused: newRateLimitedLog(logger), logIdle: newRateLimitedLog(logger), logMemory: newRateLimitedLog(logger),
		refused: map[int32]int{}, parked: map[*net.UnixConn]*time.Timer{}, settled: make(chan struct{}),
	}
}

// ListenForGateway returns a listener on a second socket of the same server, for the user uid
// alone. Each call there has to name the remote identity in wire.HeaderAskedBy, and
// Config.Policy decides. Both listeners share the limits of connections and memory.
func (l *Listener) ListenForGateway(socket *net.UnixListener, uid uint32) *Listener {
	g := Listen(socket, l.logger)
	g.roster, g.memory, g.isForGateway, g.gatewayUID = l.roster, l.memory, true, uid
	return g
}

// parkingPlaces returns how many connections may be parked, so that most file descriptors
// of the process stay free.
func parkingPlaces() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur/4, maxParked))
}

// rateLimitedLog writes at most one log line in logInterval, with the number of lines that it
// omitted.
type rateLimitedLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	next    time.Time
	omitted int
}

func newRateLimitedLog(logger *slog.Logger) *rateLimitedLog { return &rateLimitedLog{logger: logger} }

func (s *rateLimitedLog) warn(message string, attrs ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.omitted++
		return
	}
	s.next = now.Add(logInterval)
	s.logger.Warn(message, append(attrs, "omitted", s.omitted)...)
	s.omitted = 0
}

// conn is a connection with a known peer.
type conn struct {
	*net.UnixConn
	peer     peerInfo
	session  *session
	account  *account
	onServed func() // gRPC has begun to serve the connection
	onClosed func()

	writing    sync.Mutex
	hasWritten bool // gRPC has written something; guarded by writing
}

func (c *conn) Close() error {
	c.onServed()
	c.onClosed()
	return c.UnixConn.Close()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	c.account.received(p[:n])
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.UnixConn.Write(p)
	c.hasWritten = c.hasWritten || n > 0
	c.account.sent(p[:n])
	return n, err
}

// farewellTime is how long a caller may take to receive the reason of the end.
const farewellTime = 100 * time.Millisecond

// end closes the connection and sends the reason to a caller that reads. A call that
// arrived too late counts as not begun for its caller.
func (c *conn) end(code uint32, why string) {
	if c.writing.TryLock() { // otherwise a write is blocked
		if last, ok := c.account.lastStream(); ok && c.hasWritten {
			_ = c.SetWriteDeadline(time.Now().Add(farewellTime))
			_, _ = c.UnixConn.Write(goAway(last, code, why))
		}
		c.writing.Unlock()
	}
	_ = c.Close()
}

// Accept returns the next connection to serve. If all places are taken, it ends the idle
// connection that roster chooses. It also returns a refused connection if the server can
// answer its calls with the reason.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(raw)
		if err != nil {
			l.logRefused.warn("connection refused", "error", err)
			_ = raw.Close()
			continue
		}
		if l.isForGateway {
			who.isRoot, who.isOwn, who.isGateway = false, false, true
		}
		c := l.connection(raw, who)
		idle, refusal := l.admit(c)
		if idle != nil {
			l.logIdle.warn("ended an idle connection: its place is needed", "uid", idle.peer.uid, "pid", idle.peer.pid, "for_uid", who.uid, "for_pid", who.pid)
			idle.end(codeNone, "tridentd ended this connection: it was idle, and its place is needed")
		}
		if refusal == nil || l.serveRefused(c, refusal) {
			return c, nil
		}
		c.onServed()
		c.onClosed()
		l.park(raw)
	}
}

// admit adds c to the roster, unless the user may not use the socket.
func (l *Listener) admit(c *conn) (ended *conn, err error) {
	if l.isForGateway && c.peer.uid != l.gatewayUID {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.Denied, "connect to the socket for gateways: only user ID %d may, and the caller is user ID %d", l.gatewayUID, c.peer.uid),
			"use /run/trident/trident.sock as root")
	}
	return l.roster.admit(c)
}

func (l *Listener) connection(raw *net.UnixConn, who peerInfo) *conn {
	session, end := newSession()
	c := &conn{UnixConn: raw, peer: who, session: session}
	c.account = l.memory.open(func(why string) {
		l.logMemory.warn("ended a connection: too many bytes are held for it", "uid", who.uid, "pid", who.pid, "error", why)
		c.end(codeTooMuch, why)
	})
	session.account = c.account
	l.countRaw(1)
	c.onServed = sync.OnceFunc(func() { l.countRaw(-1) })
	c.onClosed = sync.OnceFunc(func() {
		end()
		c.account.close()
		l.forget(c)
	})
	return c
}

// serveRefused lets c be served although it is refused, so that its calls return the
// reason. It returns false if too many of these are served.
func (l *Listener) serveRefused(c *conn, refusal error) bool {
	l.logRefused.warn("connection refused", "error", refusal, "uid", c.peer.uid, "pid", c.peer.pid)
	l.mu.Lock()
	defer l.mu.Unlock()
	all := 0
	for _, n := range l.refused {
		all += n
	}
	if all >= maxRefused || l.refused[c.peer.pid] >= maxRefusedOfProcess {
		return false
	}
	l.refused[c.peer.pid]++
	c.peer.refusal = refusal
	time.AfterFunc(refusedTime, func() { c.end(codeTooMuch, refusal.Error()) })
	return true
}

// forget removes a connection from all counts.
func (l *Listener) forget(c *conn) {
	l.roster.remove(c)
	if c.peer.refusal == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused[c.peer.pid]--; l.refused[c.peer.pid] == 0 {
		delete(l.refused, c.peer.pid)
	}
}

// park closes a connection: after parkedTime if there is a parking place, else at once.
func (l *Listener) park(raw *net.UnixConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.parked) >= l.maxParked {
		_ = raw.Close()
		return
	}
	l.parked[raw] = time.AfterFunc(parkedTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.parked, raw)
		_ = raw.Close()
	})
}

func (l *Listener) countRaw(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw += n
	l.signal()
}

// Close stops accepting. Served connections stay open.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	for raw, timer := range l.parked {
		timer.Stop()
		_ = raw.Close()
	}
	clear(l.parked)
	l.signal()
	l.mu.Unlock()
	return l.UnixListener.Close()
}

// signal ends settle if no connection is raw. The caller holds l.mu.
func (l *Listener) signal() {
	if l.closed && l.raw == 0 {
		select {
		case <-l.settled:
		default:
			close(l.settled)
		}
	}
}

// settle stops accepting and waits until gRPC serves every accepted connection, so that
// none is closed without an answer.
func (l *Listener) settle() {
	_ = l.Close()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-l.settled:
	case <-timer.C:
	}
}

// peerInfo identifies the other end of a connection, from the kernel.
type peerInfo struct {
	uid    uint32
	pid    int32
	isRoot bool // or the user of the daemon, which in tests need not be root
	isOwn  bool // the CLI or the rescuer, run by root
	// isGateway peers call for remote identities; see ListenForGateway.
	isGateway bool
	refusal   error // the error of all calls of a refused connection
	session   *session
}

func (peerInfo) AuthType() string { return "unix-peer" }

// isSelf reports whether the peer is this process.
func (p peerInfo) isSelf() bool { return int(p.pid) == os.Getpid() }

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
	who := peerInfo{uid: cred.Uid, pid: cred.Pid, isRoot: cred.Uid == 0 || int(cred.Uid) == os.Geteuid()}
	who.isOwn = who.isRoot && isOwnProgram(cred.Pid)
	return who, nil
}

// isOwnProgram reports whether a process runs trident or trident-rescue, by the name of
// its program file. Any process of root could have that name: this decides only about
// free places.
func isOwnProgram(pid int32) bool {
	path, err := os.Readlink("/proc/" + strconv.Itoa(int(pid)) + "/exe")
	name := filepath.Base(strings.TrimSuffix(path, " (deleted)"))
	return err == nil && (name == "trident" || name == "trident-rescue")
}

// peerCredentials gives the peer of a connection to its calls. It refuses connections
// that no Listener has accepted.
type peerCredentials struct{}

func (peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection from %s: not from our unix socket", raw.RemoteAddr().Network())
	}
	c.onServed()
	who := c.peer
	who.session = c.session
	return c, who, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for a server")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
