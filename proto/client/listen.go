package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/trident-project/trident/proto/errkind"
)

const (
	// handshakeTime bounds the TLS handshake of a host.
	handshakeTime = 10 * time.Second
	// maxHandshakes is how many handshakes may be unfinished at a time. With more of them
	// the listener closes the oldest, which a host that works has completed long before.
	maxHandshakes = 256
	// maxWaiting is how many connections may wait to be used, one per host.
	maxWaiting = 16 << 10
)

// A Listener accepts the connections of hosts that connect out: those of trident-gateway
// connect, and of upstream's rcp-agent. It demands a certificate of each host that the
// authorities of its TLS configuration have signed, and keeps the newest connection of each
// host until the program uses it. Its methods may be called concurrently.
type Listener struct {
	socket    net.Listener
	tls       *tls.Config
	identify  func(*x509.Certificate) string
	connected func(HostConn)
	logger    *slog.Logger
	limit     time.Duration // see handshakeTime
	halfOpen  int           // see maxHandshakes

	mu         sync.Mutex
	closed     bool
	handshakes []net.Conn          // unfinished, the oldest first
	waiting    map[string]*waiting // by identity
	order      []string            // the hosts in waiting, in order of arrival
	requests   []*hostRequest      // calls of Accept and Host, the oldest first
	running    sync.WaitGroup      // goroutines of this listener
}

// HostConn is a connection of a host. The program that takes it speaks to tridentd over it.
type HostConn struct {
	net.Conn
	// Identity is the name of the host; see [Identity].
	Identity string
	// Certificate is the one that the host has shown.
	Certificate *x509.Certificate
}

// A ListenOption changes a Listener.
type ListenOption func(*Listener)

// WithIdentity sets how the listener names a host by its certificate, in place of [Identity].
// It closes the connection of a host for which identify returns "".
func WithIdentity(identify func(*x509.Certificate) string) ListenOption {
	return func(l *Listener) { l.identify = identify }
}

// WithConnected makes the listener call fn for each host that has connected, before it hands
// the connection out. fn must not use the connection, and must not block.
func WithConnected(fn func(HostConn)) ListenOption {
	return func(l *Listener) { l.connected = fn }
}

// WithHandshakes sets how long a TLS handshake may take and how many may be unfinished at a
// time, in place of 10 s and 256. With more of them the listener closes the oldest, which a
// host that works has completed long before.
func WithHandshakes(limit time.Duration, unfinished int) ListenOption {
	return func(l *Listener) { l.limit, l.halfOpen = limit, max(1, unfinished) }
}

// WithListenLogger sets the logger for refused connections (level warn, with the address of
// the peer and the reason) and accepted ones (level debug).
func WithListenLogger(logger *slog.Logger) ListenOption {
	return func(l *Listener) { l.logger = logger }
}

// Listen listens on a TCP address such as ":7443", with keep-alive probes every 30 s. It
// fails as [NewListener] does, and with KindUnavailable if it cannot have the address.
func Listen(address string, config *tls.Config, options ...ListenOption) (*Listener, error) {
	listening := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	socket, err := listening.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, errkind.With(errkind.Unavailable, fmt.Errorf("listen for hosts on %s: %w", address, err))
	}
	l, err := NewListener(socket, config, options...)
	if err != nil {
		_ = socket.Close()
	}
	return l, err
}

// NewListener returns a listener that accepts connections of socket, which it closes at its
// end. config needs a certificate of this server and ClientCAs, the authorities of the hosts;
// otherwise NewListener fails with KindInvalid. Agents, ours and upstream's, accept only a
// certificate with the DNS name reverseconnectproxy unless they are configured otherwise. The
// listener speaks TLS 1.3 only, and no ALPN, as upstream's does.
func NewListener(socket net.Listener, config *tls.Config, options ...ListenOption) (*Listener, error) {
	address := socket.Addr()
	if config == nil || (len(config.Certificates) == 0 && config.GetCertificate == nil) {
		return nil, errkind.Errorf(errkind.Invalid, "listen for hosts on %s: the TLS configuration has no certificate", address)
	}
	if config.ClientCAs == nil {
		return nil, errkind.Errorf(errkind.Invalid, "listen for hosts on %s: the TLS configuration has no authorities of hosts (ClientCAs)", address)
	}
	config = config.Clone()
	config.ClientAuth, config.MinVersion, config.NextProtos = tls.RequireAndVerifyClientCert, tls.VersionTLS13, nil
	l := &Listener{
		socket: socket, tls: config, identify: Identity, connected: func(HostConn) {}, logger: slog.New(slog.DiscardHandler),
		limit: handshakeTime, halfOpen: maxHandshakes, waiting: map[string]*waiting{},
	}
	for _, o := range options {
		o(l)
	}
	l.running.Go(l.serve)
	return l, nil
}

// Identity returns the identity of a host by its certificate: the first DNS name, else the
// first URI, else "sha256:" and the hexadecimal fingerprint of the certificate. A name with
// characters that cannot be printed, or with more than 253, does not count.
func Identity(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	for _, name := range names {
		if isName(name) {
			return name
		}
	}
	return fingerprint(cert)
}

// Addr returns the address on which the listener listens.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Hosts returns the identities of the hosts whose connections wait to be used, in the order
// of their arrival.
func (l *Listener) Hosts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order)
}

// Accept takes the connection of the host that waits longest, or of the next that connects.
// It fails when ctx ends or the listener is closed.
func (l *Listener) Accept(ctx context.Context) (HostConn, error) { return l.take(ctx, "") }

// Host takes the connection of one host, or waits for the next one.
func (l *Listener) Host(ctx context.Context, identity string) (HostConn, error) {
	if identity == "" {
		return HostConn{}, errkind.Errorf(errkind.Invalid, "wait for a host: its identity is empty")
	}
	return l.take(ctx, identity)
}

// Client returns a client of one host, which need not be connected yet. The client takes the
// next connection of the host whenever it needs one, also after a restart of the daemon or a
// reboot of the host. It sends a ping every 30 s while it holds a connection, so that address
// translators between the two keep it. An agent holds one connection at a time: use one client
// for each host, and close it before Accept has to see the host again.
func (l *Listener) Client(identity string, options ...Option) (*Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) { return l.Host(ctx, identity) }
	pings := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true})
	return Dial(identity, append([]Option{WithDialer(dial), WithGRPC(pings)}, options...)...)
}

// Close closes the listener and the connections that nobody has taken. Calls of Accept and
// Host that wait fail with KindCancelled.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	err := l.socket.Close()
	for _, conn := range l.handshakes {
		_ = conn.Close()
	}
	for _, w := range l.waiting {
		_ = w.conn.Close()
	}
	for _, r := range l.requests {
		close(r.result)
	}
	l.waiting, l.order, l.requests = map[string]*waiting{}, nil, nil
	l.mu.Unlock()
	l.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
