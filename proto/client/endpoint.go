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

	"github.com/trident-project/trident/internal/errkind"
)

// dialTime bounds one attempt to connect: a socket that nobody serves yet takes
// the connection and says nothing until the daemon is up.
const dialTime = 20 * time.Second

// lastWords is how long a connection that was closed is listened to.
const lastWords = 200 * time.Millisecond

// maxSocketPath is how many bytes the path of a unix socket can have (unix(7)).
const maxSocketPath = 107

// endpoint is one way to the host.
type endpoint struct {
	target string
	dial   func(ctx context.Context, target string) (net.Conn, error)
}

// complete reads the target, if nothing else says how to connect.
func (e *endpoint) complete(config *tls.Config) error {
	given := e.target
	e.target = strings.TrimPrefix(e.target, "unix://")
	address, overTLS := strings.CutPrefix(e.target, "tls://")
	scheme, _, other := strings.Cut(e.target, "://")
	switch {
	case e.target == "":
		return errkind.Errorf(errkind.Invalid, "connect to tridentd: the path of its socket is empty")
	case e.dial != nil:
	case overTLS:
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return errkind.With(errkind.Invalid, fmt.Errorf("connect to tridentd at %s: %w", given, err))
		}
		e.dial = dialTLS(address, host, config)
	case other:
		return errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "connect to tridentd at %s: %s is no way to connect", given, scheme),
			"name a socket, or tls://host:port, or connect by a dialer")
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

// noted is a connection that keeps the error by which reading from it ended:
// gRPC tells it as part of a longer text only.
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

// Write looks for what the other end had to say when it closed: a server that
// does not trust us says so after our side of the TLS handshake is over.
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
