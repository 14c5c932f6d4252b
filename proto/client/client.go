// Package client is the Go SDK of Trident's API.
//
// It is thin in nouns: requests and results are the messages of proto/trident,
// under short names. It is thick in verbs: a call outlives the daemon that it
// began with. tridentd replaces itself, exits when idle and is started again by
// its socket, so a lost connection is normal: calls that only read are tried
// again, and a verb that begins an operation watches it to its end by the
// operation's ID and the sequence number of the last event, over as many
// connections as it takes. Each event comes once, in order.
//
// What is wrong is told by Kind, what to do about it by Hint.
package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// The messages of the API that verbs take and return.
type (
	Operation    = operationsv1.Operation
	Event        = operationsv1.Event
	Status       = selfv1.GetStatusResponse
	HistoryEntry = selfv1.HistoryEntry
	Trial        = selfv1.Trial
)

// maxMessage bounds what the daemon can make us hold.
const maxMessage = 16 << 20

// A Client talks to one daemon. It connects when it is first used, and again
// whenever it has to. It may be used by many at once.
type Client struct {
	target string
	dial   func(context.Context) (net.Conn, error)
	logger *slog.Logger
	// How long a reading call, and a watch, wait for a daemon that does not
	// answer before they give up.
	callPatience, watchPatience time.Duration

	conn       *grpc.ClientConn
	version    tridentv1.VersionServiceClient
	self       selfv1.SelfServiceClient
	operations operationsv1.OperationsServiceClient

	mu      sync.Mutex
	dialErr error // of the last attempt to connect
	reached bool  // an attempt succeeded once
}

// An Option changes how a Client connects.
type Option func(*Client)

// WithDialer connects by a function of the caller's: through SSH, to a virtual
// machine, in memory. It is called again after each lost connection.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return func(c *Client) { c.dial = dial }
}

// WithLogger has lost and regained connections logged, at the level debug.
func WithLogger(l *slog.Logger) Option {
	return func(c *Client) { c.logger = l }
}

// Dial returns a client for target: the path of a unix socket, or unix:// and
// the path. It does not connect yet. With a dialer, target is only shown in
// errors.
func Dial(target string, options ...Option) (*Client, error) {
	c := &Client{
		target: strings.TrimPrefix(target, "unix://"), logger: slog.New(slog.DiscardHandler),
		callPatience: 30 * time.Second, watchPatience: 15 * time.Minute,
	}
	c.dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.target)
	}
	for _, o := range options {
		o(c)
	}
	if c.target == "" {
		return nil, errors.New("connect to tridentd: the path of its socket is empty")
	}
	conn, err := grpc.NewClient("passthrough:///tridentd",
		grpc.WithContextDialer(c.connect),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(c.unary),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// A restart takes tenths of a second; a socket that nobody serves yet
		// takes the connection and says nothing until the daemon is up.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastPause},
			MinConnectTimeout: 20 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	c.version = tridentv1.NewVersionServiceClient(conn)
	c.self = selfv1.NewSelfServiceClient(conn)
	c.operations = operationsv1.NewOperationsServiceClient(conn)
	return c, nil
}

// Close ends all calls. Operations go on.
func (c *Client) Close() error { return c.conn.Close() }

// Conn is for services that have no verb here: those of trident.v1, health,
// reflection. Errors of such calls work with Kind and Hint too.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Version is the version of the daemon.
func (c *Client) Version(ctx context.Context) (string, error) {
	resp, err := c.version.Version(ctx, &tridentv1.VersionRequest{})
	return resp.GetVersion(), err
}

// connect dials, and keeps what came of it: gRPC tells it as part of a longer
// text only.
func (c *Client) connect(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := c.dial(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	c.reached = c.reached || err == nil
	c.logger.Debug("connect to tridentd", "socket", c.target, "error", err)
	return conn, err
}

// hopeless says that waiting will not help: there never was a connection, and
// the last attempt to make one failed.
func (c *Client) hopeless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.reached && c.dialErr != nil
}
