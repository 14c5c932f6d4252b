package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// handshake records how the last TLS handshake of a request ended, which may be after
// the end of the request.
type handshake struct {
	mu  sync.Mutex
	err error
}

func (h *handshake) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.err = err
	}})
}

// refused reports whether one side refused the handshake; false if the connection broke
// or the time was over.
func (h *handshake) refused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err != nil && !isBroken(h.err)
}

// isBroken reports whether err says that a connection broke or was too slow.
func isBroken(err error) bool {
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	return errors.As(err, &errno) || errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)
}

// proxyKey is the key of the proxy's name in the context of a request.
type proxyKey struct{}

// proxyOf returns the proxy, without its password, that transport uses for req, or "".
func proxyOf(transport http.RoundTripper, req *http.Request) string {
	t, ok := transport.(*http.Transport)
	if !ok || t.Proxy == nil {
		return ""
	}
	u, err := t.Proxy(req)
	if err != nil || u == nil {
		return ""
	}
	return redact(&url.URL{Scheme: u.Scheme, Host: u.Host})
}

// through names the server of a request, and the proxy if there is one.
func through(host, proxy string) string {
	if proxy == "" {
		return host
	}
	return host + " through the proxy " + proxy
}

const (
	proxyHint = "The proxy is set by HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment of tridentd (of trident, where no daemon is needed)."
	certHint  = "If the server's certificate is of a private authority, put the authority's certificate into /etc/trident/ca.d, or name it with --ca."
)

// connectRefused is a proxy's refusal of a tunnel.
type connectRefused struct{ resp *http.Response }

func (e connectRefused) Error() string {
	return fmt.Sprintf("the proxy refuses the connection: %d %s", e.resp.StatusCode, http.StatusText(e.resp.StatusCode))
}

func onProxyConnectResponse(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return connectRefused{resp}
}

// failure converts err, of a request without an answer: to a retryError, or to an error
// that another try would meet again.
func failure(u *url.URL, proxy string, h *handshake, err error) error {
	server := through(u.Host, proxy)
	if refused, ok := errors.AsType[connectRefused](err); ok {
		return errkind.WithHint(proxyError(server, refused), proxyHint)
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errkind.WithHint(errkind.Errorf(errkind.TLS, "connect to %s: the server's certificate is not accepted: %w", server, cert), "%s", certificateHint(cert))
	}
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(plain.RecordHeader[:]) == "HTTP/" {
		err := errkind.Errorf(errkind.TLS, "connect to %s: the server answers in http, not in https: %w", server, plain)
		return errkind.WithHint(err, "Check scheme and port of the URL.")
	}
	broken, isOp := errors.AsType[*net.OpError](err)
	if h.refused() || isOp && broken.Op == "remote error" {
		return errkind.Errorf(errkind.TLS, "connect to %s: TLS handshake: %w", server, err)
	}
	if isMalformed(err) {
		return malformed(fmt.Errorf("ask %s: %w", server, err))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		err := errkind.Errorf(errkind.Unavailable, "connect to %s: %w", server, err)
		return errkind.WithHint(err, "Check the name of the host in the URL, and the DNS servers of this host.")
	}
	err = fmt.Errorf("ask %s: %w", server, err)
	if isOp && broken.Op == "proxyconnect" { // what net/http calls a failure to connect to the proxy
		return retryError{error: errkind.WithHint(err, proxyHint), dial: true}
	}
	return retryError{error: err, dial: isOp && broken.Op == "dial"}
}

// certificateHint returns what a person can do about a certificate that is not accepted.
func certificateHint(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "Compare the clock of this host with the dates of the certificate. If the clock is right, the server needs a new certificate."
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "Name the server in the URL as its certificate does, or give the server a certificate for this name."
	}
	return certHint
}

// isMalformed reports whether err says that an answer breaks the rules of HTTP, or our
// limits. Another try would get the same answer. net/http has no type for such errors.
func isMalformed(err error) bool {
	if isBroken(err) {
		return false
	}
	text := err.Error()
	for _, words := range []string{
		"transport connection broken: ", "response headers exceeded", "response header list larger than", "malformed HTTP", "malformed chunked encoding",
		"invalid byte in chunk length", "http chunk length too large",
	} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func malformed(err error) error {
	err = errkind.Errorf(errkind.Invalid, "the answer of the server cannot be used: %w", err)
	return errkind.WithHint(err, "The server, or a proxy before it, breaks the rules of HTTP or sends more than 64 KiB of headers: look at its configuration.")
}

func proxyError(server string, refused connectRefused) error {
	err := fmt.Errorf("connect to %s: %w", server, refused)
	switch resp := refused.resp; resp.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusForbidden, http.StatusUnauthorized:
		return errkind.With(errkind.Denied, err)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return retryError{error: err, after: retryAfter(resp.Header, time.Now()), dial: true}
	}
	return errkind.With(errkind.Unavailable, err)
}
