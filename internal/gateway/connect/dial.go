package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	// dialTime bounds each attempt to reach the listener, handshake and proxy included.
	dialTime = 30 * time.Second
	// userTimeout is how long sent bytes may stay without acknowledgement before the kernel
	// ends the connection (TCP_USER_TIMEOUT in tcp(7)).
	userTimeout = 60 * time.Second
	// maxProxyHeader bounds the answer of a proxy, in bytes.
	maxProxyHeader = 16 << 10
)

// dial connects to the listener, if need be through a proxy, and completes the handshake,
// within dialTime.
func (a *agent) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.dialTime, errkind.Errorf(errkind.Timeout, "no answer within %s", a.dialTime))
	defer cancel()
	settings, err := a.config.TLS.config(time.Now())
	if err != nil {
		return nil, err
	}
	raw, err := a.dialRaw(ctx)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	conn := tls.Client(raw, settings)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, errkind.With(errkind.TLS, fmt.Errorf("TLS handshake: %w", causeOf(ctx, err)))
	}
	return conn, nil
}

// causeOf returns the cause for which ctx has ended, or else err.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (a *agent) dialRaw(ctx context.Context) (net.Conn, error) {
	proxy, err := a.proxyURL()
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return a.dialTCP(ctx, a.config.ClientAddress)
	}
	conn, err := a.dialTCP(ctx, proxyAddress(proxy))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	tunnel, err := connectThrough(ctx, conn, proxy, a.config.ClientAddress)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return tunnel, nil
}

// dialTCP connects with keep-alive probes and with userTimeout, so that the agent notices a
// peer that has vanished.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3},
		ControlContext:  setUserTimeout,
	}
	return d.DialContext(ctx, "tcp", address)
}

func setUserTimeout(_ context.Context, _, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}
