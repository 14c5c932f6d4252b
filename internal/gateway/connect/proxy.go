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
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

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
