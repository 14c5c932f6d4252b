package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/proto/errkind"
)

// dialTime bounds one attempt to connect: systemd's socket accepts a connection before
// the daemon runs, and nothing answers until it does.
const dialTime = 20 * time.Second

// lastWords is how long the client reads from a connection after a failed write, for the
// server's reason.
const lastWords = 200 * time.Millisecond

// maxSocketPath is the longest path of a unix socket, in bytes (unix(7)).
const maxSocketPath = 107

// endpoint is one target of the host, and how to connect to it.
type endpoint struct {
	target  string
	dial    func(ctx context.Context, target string) (net.Conn, error)
	overTLS bool // by the client's own dial, which has checked the server
}

// complete derives dial from the target, unless an option has set dial. It fails with
// Invalid if the target is empty, malformed, or too long for a socket.
func (e *endpoint) complete(config *tls.Config, ssh sshCommand) (err error) {
	given := e.target
	e.target = strings.TrimPrefix(strings.TrimPrefix(e.target, "unix:"), "//")
	if !strings.HasPrefix(given, "unix:") {
		e.target = given
	}
	address, overTLS := strings.CutPrefix(e.target, "tls://")
	scheme, _, other := strings.Cut(e.target, "://")
	switch {
	case e.target == "":
		return errkind.Errorf(errkind.Invalid, "connect to tridentd: the path of its socket is empty")
	case e.dial != nil:
	case overTLS && strings.ContainsAny(address, "@/?#"):
		// The error has nothing of the target, which may have a secret in it.
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "connect to tridentd: the target is not tls://host:port: it has a user, a path or a query"),
			"A token is not a part of a target: name its file as tokenFile in hosts.yaml, or use WithToken.")
	case overTLS:
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return errkind.With(errkind.Invalid, fmt.Errorf("connect to tridentd at %s: %w", given, err))
		}
		e.dial, e.overTLS = dialTLS(address, host, config), true
	case scheme == "ssh" && other:
		e.dial, err = dialSSH(given, ssh)
		return err
	case other:
		return errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "connect to tridentd at %s: scheme %q is not supported", given, scheme),
			"name a socket, ssh://[user@]host[:port] or tls://host:port, or connect by a dialer")
	case len(e.target) > maxSocketPath:
		return errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "connect to tridentd at %s: the path has %d bytes, and that of a socket can have %d", given, len(e.target), maxSocketPath),
			"name the socket by a shorter path: a relative one, or one through a symbolic link")
	default:
		e.dial = func(ctx context.Context, target string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", target)
		}
	}
	return nil
}

func dialTLS(address, host string, config *tls.Config) func(context.Context, string) (net.Conn, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.ServerName = cmp.Or(config.ServerName, host)
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
}

// noted is a connection that keeps the first error of Read, because gRPC shows that error
// only inside a longer text.
type noted struct {
	net.Conn
	mu  sync.Mutex
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	count, err := n.Conn.Read(p)
	n.note(err)
	return count, err
}

// Write reads from the connection if the write fails: a server that rejects our
// certificate sends its reason after our side of the TLS handshake is complete.
func (n *noted) Write(p []byte) (int, error) {
	count, err := n.Conn.Write(p)
	if err != nil && n.SetReadDeadline(time.Now().Add(lastWords)) == nil {
		_, _ = n.Read(make([]byte, 1))
	}
	return count, err
}

func (n *noted) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.err = err
	}
}

func (n *noted) fault() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}
