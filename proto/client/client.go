// Package client is the Go SDK of Trident's API.
//
// Requests and results are the messages of proto/trident, under short names.
//
// A call survives the loss of its connection. Losing it is normal: tridentd replaces
// itself, exits when idle until systemd starts it again, and reboots the host for some
// operations. The client repeats calls that only read. It names each request that begins
// an operation, so that it can repeat the request after a lost answer without beginning a
// second operation. It watches the operation to its end by ID and by the sequence number
// of the last event, over any number of connections, and delivers each event once, in
// order.
//
// On every connection the client first performs a handshake. From it the client knows the
// daemon's capabilities and limits (Server), and whether this is still the same host. It
// treats a daemon without a handshake, such as upstream's, as the oldest version.
//
// Kind returns the kind of an error, Hint what to do about it.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// The messages of the API that verbs take and return.
type (
	Operation    = operationsv1.Operation
	Event        = operationsv1.Event
	Status       = selfv1.GetStatusResponse
	HistoryEntry = selfv1.HistoryEntry
	Trial        = selfv1.Trial
	Updates      = selfv1.CheckUpdatesResponse
	Policy       = selfv1.Policy
	PolicyOrigin = selfv1.GetPolicyResponse
	Server       = setupv1.HandshakeResponse
	Completed    = tridentv1.Completed
)

// maxMessage is the largest message, in bytes, that the client accepts.
const maxMessage = 16 << 20

// streamWindow is how many bytes a daemon can send ahead on one stream: enough for 20 MiB/s at
// 50 ms.
const streamWindow = 1 << 20

// A Client calls the daemon of one host. It connects for its first call, and again after
// a lost connection. Its methods may be called concurrently.
type Client struct {
	target      string // all endpoints, for errors
	endpoints   []endpoint
	name        string
	nameVersion string
	tls         *tls.Config
	ssh         sshCommand
	token       func(context.Context) (string, error) // nil without one
	extra       []grpc.DialOption
	logger      *slog.Logger
	// callTime bounds a unary call whose context has no deadline.
	callTime time.Duration
	// A reading call, or a watch, gives up after this time without an answer.
	callPatience, watchPatience time.Duration

	connecting chan struct{} // held by the goroutine that makes a link

	mu      sync.Mutex
	closed  bool
	current *link
	retired []*link
	good    int    // index of the endpoint of the last link
	pinned  bool   // a handshake has set host
	host    string // the identity of the host; empty if its daemon does not state one
	leaving string // the operation that waits for a reboot, perhaps into another system
	reached bool   // an endpoint accepted a connection once
	refused bool   // the last attempt to make a link failed
}

// An Option changes how a Client connects.
type Option func(*Client)

// WithDialer makes the client connect by calling dial: through SSH, to a virtual machine,
// in memory. The client calls dial again after each lost connection. Targets are then
// only names, in errors.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return WithTargetDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) })
}

// WithTargetDialer is WithDialer for a dial function that also needs the target.
func WithTargetDialer(dial func(ctx context.Context, target string) (net.Conn, error)) Option {
	return func(c *Client) {
		for i := range c.endpoints {
			c.endpoints[i].dial = dial
		}
	}
}

// WithAlternatives adds other targets of the same host. If one does not answer, the
// client tries the next in order, and keeps to the one that works. It refuses a target
// whose daemon states another host in the handshake and, after its first connection,
// another target whose daemon states none.
func WithAlternatives(targets ...string) Option {
	return func(c *Client) {
		for _, target := range targets {
			c.endpoints = append(c.endpoints, endpoint{target: target, dial: c.endpoints[0].dial})
		}
	}
}

// WithTLS sets the TLS configuration for targets of the form tls://. Without it the
// client trusts the authorities that its machine trusts; with certificates in config it
// authenticates itself. An empty ServerName means the host of the target.
func WithTLS(config *tls.Config) Option {
	return func(c *Client) { c.tls = config.Clone() }
}

// WithName sets the name and version of the program for the daemon's log.
func WithName(name, version string) Option {
	return func(c *Client) { c.name, c.nameVersion = name, version }
}

// WithTimeout bounds each unary call whose context has no deadline, including repeated
// attempts. The default is one minute; 0 means no bound. A verb that follows an operation
// has no bound but its context.
func WithTimeout(d time.Duration) Option {
	return func(c *Client) { c.callTime = d }
}

// WithGRPC adds options to each gRPC connection: interceptors, which see every attempt,
// and stats handlers.
func WithGRPC(options ...grpc.DialOption) Option {
	return func(c *Client) { c.extra = append(c.extra, options...) }
}

// WithLogger sets the logger for lost and regained connections, at level debug.
func WithLogger(l *slog.Logger) Option {
	return func(c *Client) { c.logger = l }
}

// Dial returns a client for target: the path of a unix socket, unix: and the path,
// ssh://[user@]host[:port] or tls://host:port. It does not connect yet, and fails only for a
// malformed target.
//
// For ssh:// the client runs the user's own ssh, with its agent, configuration and jump hosts,
// which runs trident dial-stdio on the host: see WithSSH and WithRemoteCommand. ssh asks no
// questions. Each connection is a process, which ends with the connection.
func Dial(target string, options ...Option) (*Client, error) {
	c := &Client{
		endpoints: []endpoint{{target: target}}, name: "proto/client", logger: slog.New(slog.DiscardHandler),
		callTime: time.Minute, callPatience: 30 * time.Second, watchPatience: 15 * time.Minute,
		connecting: make(chan struct{}, 1),
	}
	for _, o := range options {
		o(c)
	}
	var names []string
	for i := range c.endpoints {
		if err := c.endpoints[i].complete(c.tls, c.ssh); err != nil {
			return nil, err
		}
		names = append(names, c.endpoints[i].target)
	}
	c.target = strings.Join(names, ", ")
	if err := c.checkToken(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends all calls, and later ones fail with KindCancelled. Operations continue in
// the daemon.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	links := c.retired
	if c.current != nil {
		links = append(links, c.current)
	}
	c.current, c.retired = nil, nil
	var faults []error
	for _, l := range links {
		faults = append(faults, l.conn.Close())
	}
	return errors.Join(faults...)
}

// Conn returns a connection for services without a verb here: health, reflection. Unary
// calls over it have the deadline of WithTimeout, and the client repeats those that only
// read. Kind and Hint accept their errors.
func (c *Client) Conn() grpc.ClientConnInterface { return caller{c} }

// Version returns the version of the daemon.
func (c *Client) Version(ctx context.Context) (string, error) {
	resp, err := tridentv1.NewVersionServiceClient(c.Conn()).Version(ctx, &tridentv1.VersionRequest{})
	return resp.GetVersion(), err
}

// Server returns the daemon's answer to the handshake: its capabilities, its limits, and
// the identity of its host. All fields are empty for a daemon without a handshake.
func (c *Client) Server(ctx context.Context) (*Server, error) {
	l, err := c.patientLink(ctx)
	if err != nil {
		return nil, err
	}
	return l.server, nil
}

// Require returns an error of KindPrecondition that names the given capabilities that the
// daemon lacks, or nil. docs/errors.md lists the names.
func (c *Client) Require(ctx context.Context, capabilities ...string) error {
	l, err := c.patientLink(ctx)
	if err != nil {
		return err
	}
	return l.require(capabilities...)
}

var errClosed = errors.New("the client is closed")
