package connect

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
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

// proxyURL returns the proxy to use, or nil.
func (a *agent) proxyURL() (*url.URL, error) {
	if a.config.Proxy != "" {
		return parseProxy(a.config.Proxy)
	}
	u, err := a.environmentProxy(&http.Request{URL: &url.URL{Scheme: "https", Host: a.config.ClientAddress}})
	if err != nil {
		// The error has the URL, and the URL may have a password.
		return nil, errkind.Errorf(errkind.Invalid, "HTTPS_PROXY is not the URL of a proxy")
	}
	if u == nil {
		return nil, nil
	}
	if u, err = parseProxy(u.String()); err != nil {
		return nil, errkind.With(errkind.Invalid, fmt.Errorf("HTTPS_PROXY: %w", err))
	}
	return u, nil
}

func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
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

// connectThrough opens a tunnel to address through the proxy at the other end of conn
// (RFC 9110, 9.3.6). Before ctx ends, or conn is closed.
func connectThrough(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if proxy.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, causeOf(ctx, err)
		}
		conn = secured
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return nil, causeOf(ctx, err)
	}
	answer := bufio.NewReaderSize(&capped{conn, maxProxyHeader}, 4<<10)
	response, err := http.ReadResponse(answer, request) //nolint:bodyclose // the body is the connection, which the caller closes
	if err != nil {
		return nil, causeOf(ctx, errkind.With(errkind.Unavailable, fmt.Errorf("its answer is not that of an HTTP proxy: %w", err)))
	}
	// The body of a successful answer is the tunnel; that of another one ends with conn.
	if response.StatusCode != http.StatusOK {
		err := errkind.Errorf(errkind.Unavailable, "it answers %q", response.Status)
		if response.StatusCode == http.StatusProxyAuthRequired {
			err = errkind.WithHint(err, "Put user and password into its URL: http://USER:PASSWORD@HOST:PORT")
		}
		return nil, err
	}
	if answer.Buffered() > 0 { // in TLS the client speaks first
		return nil, errkind.Errorf(errkind.Unavailable, "it sends bytes that nobody asked for")
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return conn, nil
}

var errHeaderTooLong = errors.New("the header is too long")

// capped reads at most left bytes from a connection.
type capped struct {
	net.Conn
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func setUserTimeout(_ context.Context, _, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}
