package connect

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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
