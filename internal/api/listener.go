package api

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	raw       int
	accepting int           // calls of Accept, which may have a connection that is not in raw yet
	settled   chan struct{} // closed when raw and accepting are 0 after the socket was closed
	closed    bool          // the socket
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
	l.countAccepting(1)
	defer l.countAccepting(-1)
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

func (l *Listener) countAccepting(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepting += n
	l.signal()
}

// Close stops accepting. Served connections stay open.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for raw, timer := range l.parked {
		timer.Stop()
		_ = raw.Close()
	}
	clear(l.parked)
	l.signal()
	return err
}

// signal ends settle if no connection is raw or becomes raw. The caller holds l.mu.
func (l *Listener) signal() {
	if l.closed && l.raw == 0 && l.accepting == 0 {
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
