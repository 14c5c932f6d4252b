// Package client is the Go SDK of Trident's API.
//
// It is thin in nouns: requests and results are the messages of proto/trident,
// under short names. It is thick in verbs: a call outlives the daemon that it
// began with. tridentd replaces itself, exits when idle and is started again by
// its socket, and some of what it does ends in a reboot, so a lost connection is
// normal: calls that only read are tried again; a verb that begins an operation
// names its request, so that an answer which was lost is asked for again without
// a second operation; and it watches the operation to its end by ID and the
// sequence number of the last event, over as many connections as it takes. Each
// event comes once, in order.
//
// On every connection the client shakes hands first. From that it knows what the
// daemon can do and take (Server), and whether it is still the same host. A
// daemon that knows no handshake, such as upstream's, is used as the oldest one.
//
// What is wrong is told by Kind, what to do about it by Hint.
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
	Server       = setupv1.HandshakeResponse
	Completed    = tridentv1.Completed
)

// maxMessage bounds what the daemon can make us hold.
const maxMessage = 16 << 20

// A Client talks to the daemon of one host. It connects when it is first used,
// and again whenever it has to. It may be used by many at once.
type Client struct {
	target      string // all endpoints, for errors
	endpoints   []endpoint
	name        string
	nameVersion string
	tls         *tls.Config
	extra       []grpc.DialOption
	logger      *slog.Logger
	// callTime bounds a unary call that has no deadline.
	callTime time.Duration
	// How long a reading call, and a watch, wait for a daemon that does not
	// answer before they give up.
	callPatience, watchPatience time.Duration

	connecting chan struct{} // held by who makes a link

	mu      sync.Mutex
	closed  bool
	current *link
	retired []*link
	good    int    // the endpoint of the last link
	pinned  bool   // it was connected once, to host
	host    string // the identity of the host; empty when its daemon does not say
	leaving string // the operation that has the host rebooted, perhaps into another system
	reached bool   // a connection was made once
	refused bool   // the last attempt to make one failed
}

// An Option changes how a Client connects.
type Option func(*Client)

// WithDialer connects by a function of the caller's: through SSH, to a virtual
// machine, in memory. It is called again after each lost connection. Targets are
// then only names, in errors.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return WithTargetDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) })
}

// WithTargetDialer is WithDialer for a function that is told the target.
func WithTargetDialer(dial func(ctx context.Context, target string) (net.Conn, error)) Option {
	return func(c *Client) {
		for i := range c.endpoints {
			c.endpoints[i].dial = dial
		}
	}
}

// WithAlternatives adds ways to the same host. They are tried in order when the
// first does not answer; one that works is kept to. An alternative that leads to
// another host, by what its daemon says in the handshake, is never used; nor is
// one whose daemon does not say, once the client has been connected.
func WithAlternatives(targets ...string) Option {
	return func(c *Client) {
		for _, target := range targets {
			c.endpoints = append(c.endpoints, endpoint{target: target, dial: c.endpoints[0].dial})
		}
	}
}

// WithTLS is how targets of the form tls:// are talked to, in place of the
// host's own defaults: with certificates in it, the client shows who it is. The
// name of the server is that of the target unless the configuration has one.
func WithTLS(config *tls.Config) Option {
	return func(c *Client) { c.tls = config.Clone() }
}

// WithName is what the program calls itself in the daemon's log.
func WithName(name, version string) Option {
	return func(c *Client) { c.name, c.nameVersion = name, version }
}

// WithTimeout bounds each unary call whose context has no deadline, attempts
// that are repeated included. It is a minute unless set; 0 is no bound. Verbs that
// follow an operation have none but the caller's.
func WithTimeout(d time.Duration) Option {
	return func(c *Client) { c.callTime = d }
}

// WithGRPC adds to how each connection is made: interceptors, which see every
// attempt, and handlers of statistics.
func WithGRPC(options ...grpc.DialOption) Option {
	return func(c *Client) { c.extra = append(c.extra, options...) }
}

// WithLogger has lost and regained connections logged, at the level debug.
func WithLogger(l *slog.Logger) Option {
	return func(c *Client) { c.logger = l }
}

// Dial returns a client for target: the path of a unix socket, unix:// and the
// path, or tls://host:port. It does not connect yet.
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
		if err := c.endpoints[i].complete(c.tls); err != nil {
			return nil, err
		}
		names = append(names, c.endpoints[i].target)
	}
	c.target = strings.Join(names, ", ")
	return c, nil
}

// Close ends all calls. Operations go on.
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

// Conn is for services that have no verb here: health, reflection. Unary calls
// over it have the deadlines of WithTimeout, those that only read are repeated,
// and errors work with Kind and Hint.
func (c *Client) Conn() grpc.ClientConnInterface { return caller{c} }

// Version is the version of the daemon.
func (c *Client) Version(ctx context.Context) (string, error) {
	resp, err := tridentv1.NewVersionServiceClient(c.Conn()).Version(ctx, &tridentv1.VersionRequest{})
	return resp.GetVersion(), err
}

// Server is what the daemon said of itself in the handshake: its capabilities,
// limits, and which host it is on. All is empty for a daemon that knows no
// handshake.
func (c *Client) Server(ctx context.Context) (*Server, error) {
	l, err := c.patientLink(ctx)
	if err != nil {
		return nil, err
	}
	return l.server, nil
}

// Require returns an error of the kind PRECONDITION that names the capabilities
// which the daemon lacks. docs/errors.md has the list of names.
func (c *Client) Require(ctx context.Context, capabilities ...string) error {
	l, err := c.patientLink(ctx)
	if err != nil {
		return err
	}
	return l.require(capabilities...)
}

var errClosed = errors.New("the client is closed")
