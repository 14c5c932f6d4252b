package connect

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// end says how a connection has ended.
type end string

const (
	unusedEnd   end = "the listener, unused" // no byte came
	listenerEnd end = "the listener"
	daemonEnd   end = "tridentd"
	stopEnd     end = "the agent"
)

const (
	// socketTime bounds the connect to tridentd's socket, behind which systemd may start
	// the daemon.
	socketTime = 30 * time.Second
	// lingerTime is how long one direction may be silent after the other has ended.
	lingerTime = 10 * time.Second
	bufferSize = 32 << 10
)

// relay waits for the first byte of the listener, connects to the socket, and copies both
// ways until both directions have ended or ctx ends. Before that byte it does not touch the
// socket, so that an idle connection does not keep the daemon running. It closes conn. The
// error is that of the socket.
func relay(ctx context.Context, conn halfConn, socket string) (end, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	first := make([]byte, bufferSize)
	n, err := conn.Read(first)
	switch {
	case ctx.Err() != nil:
		return stopEnd, nil
	case err != nil && !errors.Is(err, io.EOF) && n == 0:
		return unusedEnd, refusalOf(err)
	case n == 0:
		return unusedEnd, nil
	}
	dialCtx, cancel := context.WithTimeout(ctx, socketTime)
	defer cancel()
	daemon, err := new(net.Dialer).DialContext(dialCtx, "unix", socket)
	if err != nil {
		if ctx.Err() != nil {
			return stopEnd, nil
		}
		return "", socketError(err)
	}
	defer func() { _ = daemon.Close() }()
	stopDaemon := context.AfterFunc(ctx, func() { _ = daemon.Close() })
	defer stopDaemon()
	if _, err := daemon.Write(first[:n]); err != nil {
		return daemonEnd, nil //nolint:nilerr // the daemon has ended: the listener sees that its connection does
	}
	by := both(conn, daemon.(*net.UnixConn), lingerTime)
	if ctx.Err() != nil {
		return stopEnd, nil
	}
	return by, nil
}

// refusalOf returns the error of a listener that refuses this host after its side of the
// handshake (TLS 1.3), and nil for a lost connection.
func refusalOf(err error) error {
	// crypto/tls reports an alert in this form; it has no type for it.
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" {
		return errkind.WithHint(errkind.With(errkind.Denied, errors.New("the listener refuses the certificate of this host: "+alert.Err.Error())),
			"The listener has to trust the certificate of this host.")
	}
	return nil
}

func socketError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return errkind.WithHint(errkind.With(errkind.Precondition, err), "Start the socket: systemctl enable --now tridentd.socket")
	case errors.Is(err, os.ErrPermission):
		return errkind.WithHint(errkind.With(errkind.Denied, err), "Only root may connect to tridentd: run the agent as root.")
	}
	return err
}

// halfConn is a connection whose sending direction can be ended alone.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// both copies in both directions until both have ended, and returns which end was first.
// The end of one direction is passed on; the other may go on until it is silent for
// lingerTime.
func both(listener, daemon halfConn, linger time.Duration) end {
	p := pair{linger: linger}
	var copies sync.WaitGroup
	copies.Go(func() { p.copy(daemon, listener, listenerEnd) })
	copies.Go(func() { p.copy(listener, daemon, daemonEnd) })
	copies.Wait()
	return p.first
}

// pair is the state that both directions share.
type pair struct {
	linger  time.Duration // see lingerTime
	closing atomic.Bool
	once    sync.Once
	first   end
}

func (p *pair) copy(to, from halfConn, by end) {
	buffer := make([]byte, bufferSize)
	for {
		p.limit(from.SetReadDeadline)
		n, rerr := from.Read(buffer)
		if n > 0 {
			p.limit(to.SetWriteDeadline)
			if _, err := to.Write(buffer[:n]); err != nil {
				p.end(to, from, opposite(by))
				return
			}
		}
		if rerr != nil {
			p.end(to, from, by)
			return
		}
	}
}

func opposite(by end) end {
	if by == listenerEnd {
		return daemonEnd
	}
	return listenerEnd
}

// limit bounds the next Read or Write of a direction if the other one has ended.
func (p *pair) limit(set func(time.Time) error) {
	if p.closing.Load() {
		_ = set(time.Now().Add(p.linger))
	}
}

// end passes the end of a direction on, and bounds what the other one waits for.
func (p *pair) end(to, from halfConn, by end) {
	p.once.Do(func() { p.first = by })
	p.closing.Store(true)
	p.limit(to.SetReadDeadline)
	p.limit(from.SetWriteDeadline)
	p.limit(to.SetWriteDeadline)
	_ = to.CloseWrite()
}
