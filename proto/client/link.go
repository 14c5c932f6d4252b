package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/proto/errkind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
)

// A link is one connection, from its handshake to its end. gRPC would reconnect by
// itself, perhaps to another daemon or host than that of the handshake, so a link never
// reconnects.
type link struct {
	conn     *grpc.ClientConn
	endpoint int
	target   string                     // all endpoints of the client, for errors
	server   *setupv1.HandshakeResponse // empty for a daemon without a handshake
}

// can reports whether the daemon has a capability.
func (l *link) can(capability string) bool {
	return slices.Contains(l.server.GetCapabilities(), capability)
}

func (l *link) alive() bool { return l.conn.GetState() == connectivity.Ready }

// errSpent is the error of gRPC's second dial on a link. A call that fails with it was
// not sent.
var errSpent = errors.New("this connection of the client has ended")

// link returns the current link, or makes one.
func (c *Client) link(ctx context.Context) (*link, error) {
	if l, err := c.living(); l != nil || err != nil {
		return l, err
	}
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l, err := c.living(); l != nil || err != nil {
		return l, err
	}
	l, err := c.connect(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = err != nil
	if err != nil {
		return nil, err
	}
	if c.closed {
		_ = l.conn.Close()
		return nil, errkind.With(errkind.Cancelled, errClosed)
	}
	c.current, c.good = l, l.endpoint
	return l, nil
}

// living returns the current link, or nil if there is none that works.
func (c *Client) living() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errkind.With(errkind.Cancelled, errClosed)
	}
	if c.current != nil && !c.current.alive() {
		c.retire(c.current)
		c.current = nil
	}
	return c.current, nil
}

// retireTime is how long the client keeps a connection that accepts no new calls: a
// daemon that shuts down still answers the running ones.
const retireTime = time.Minute

// retire closes a link after retireTime. The caller holds c.mu.
func (c *Client) retire(l *link) {
	c.retired = append(c.retired, l)
	time.AfterFunc(retireTime, func() {
		_ = l.conn.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.retired = slices.DeleteFunc(c.retired, func(other *link) bool { return other == l })
	})
}

// patientLink is link, and waits for a daemon that is briefly away.
func (c *Client) patientLink(ctx context.Context) (l *link, err error) {
	err = c.unary(ctx, true, func(_ context.Context, current *link) error {
		l = current
		return nil
	})
	return l, err
}

// connect tries the endpoints in order, from that of the last link on.
func (c *Client) connect(ctx context.Context) (*link, error) {
	c.mu.Lock()
	first := c.good
	c.mu.Unlock()
	var faults []error
	for i := range c.endpoints {
		at := (first + i) % len(c.endpoints)
		l, err := c.connectTo(ctx, at)
		c.logger.DebugContext(ctx, "connect to tridentd", "target", c.endpoints[at].target, "error", err)
		if err == nil {
			return l, nil
		}
		faults = append(faults, connectError(c.endpoints[at].target, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(faults) == 1 {
		return nil, faults[0]
	}
	return nil, connectErrors(c.target, faults)
}

func (c *Client) connectTo(ctx context.Context, at int) (*link, error) {
	most := dialTime / time.Duration(min(len(c.endpoints), 4)) // leave time for the next endpoint
	ctx, cancel := context.WithTimeoutCause(ctx, most, errkind.Errorf(errkind.Unavailable, "no answer within %s", most))
	defer cancel()
	raw, err := c.endpoints[at].dial(ctx, c.endpoints[at].target)
	if err != nil {
		return nil, err
	}
	overSSH, _ := raw.(*sshConn)
	if overSSH == nil {
		c.reaches()
	}
	l, err := c.shake(ctx, at, &noted{Conn: raw})
	if overSSH != nil && overSSH.answered.Load() {
		c.reaches()
	}
	if err != nil {
		return nil, c.unlessReached(err)
	}
	l.endpoint = at
	refusal := c.sameHost(l)
	if refusal != nil {
		refusal = c.moveTo(ctx, l, refusal)
	}
	if refusal != nil {
		_ = l.conn.Close()
		return nil, refusal
	}
	return l, nil
}

// reaches records that an endpoint has accepted a connection.
func (c *Client) reaches() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached = true
}

// unlessReached returns err, of kind Unavailable if ssh has ended with an error that cannot be
// permanent, because an earlier connection succeeded: the host replaces Trident, or boots.
func (c *Client) unlessReached(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, fromSSH := errors.AsType[*sshError](err); fromSSH && c.reached && errkind.Of(err) == errkind.Precondition {
		return errkind.With(errkind.Unavailable, err)
	}
	return err
}

// shake performs the handshake over raw, a connection to an endpoint. If that fails it closes
// raw.
func (c *Client) shake(ctx context.Context, at int, raw *noted) (*link, error) {
	options := c.dialOptions(raw)
	if c.token != nil && c.endpoints[at].overTLS {
		options = append(options, c.tokenOptions()...)
	}
	conn, err := grpc.NewClient("passthrough:///tridentd", append(options, c.extra...)...)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	server, err := setupv1.NewSetupServiceClient(conn).Handshake(ctx, &setupv1.HandshakeRequest{
		ClientName: c.name, ClientVersion: c.nameVersion, ApiPackages: apiPackages(), Limits: &setupv1.Limits{MaxMessageBytes: maxMessage},
	})
	if err == nil || status.Code(err) == codes.Unimplemented {
		// gRPC sends calls while the state is still Connecting, which alive would report
		// as ended.
		for conn.GetState() == connectivity.Connecting && conn.WaitForStateChange(ctx, connectivity.Connecting) {
		}
	}
	switch {
	case status.Code(err) == codes.Unimplemented:
		return &link{conn: conn, target: c.target, server: &setupv1.HandshakeResponse{}}, nil
	case err == nil:
		return &link{conn: conn, target: c.target, server: server}, nil
	}
	_ = conn.Close()
	_ = raw.Close() // gRPC may not have dialed yet
	return nil, whyShaken(ctx, err, raw.fault())
}

// whyShaken returns the cause of a failed handshake: the connection's own error says more
// than that of gRPC.
func whyShaken(ctx context.Context, err, fault error) error {
	// crypto/tls reports an alert in this form; it has no type for it.
	if alert, ok := errors.AsType[*net.OpError](fault); ok && alert.Op == "remote error" {
		return errkind.WithHint(errkind.With(errkind.Denied, fmt.Errorf("the server refuses this client: %w", alert.Err)),
			"It may require a client certificate that it trusts: see WithTLS, or trident hosts add --certificate.")
	}
	for _, known := range []error{fault, err} { // of our own connections and tokens
		if errkind.Of(known) != errkind.Internal {
			return known
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	st := status.Convert(err)
	if st.Code() == codes.Unavailable && len(st.Details()) == 0 {
		return errors.New("it does not answer: " + st.Message())
	}
	return statusError{st}
}

func (c *Client) dialOptions(raw net.Conn) []grpc.DialOption {
	var used atomic.Bool
	return []grpc.DialOption{
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errSpent
			}
			return raw, nil
		}),
		grpc.WithNoProxy(),
		grpc.WithChainUnaryInterceptor(missingUnary),
		grpc.WithChainStreamInterceptor(missingStream),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the endpoint does TLS
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// Without these windows gRPC measures the connection with a ping for each answer.
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(4 * streamWindow),
		grpc.WithIdleTimeout(0), // the connection may hold handles
		// Not more often than tridentd allows, which is every 5 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	}
}

// sameHost remembers the first host that states its identity and refuses others: the
// client never looks for an operation of one host on another.
func (c *Client) sameHost(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := l.server.GetHostId()
	switch {
	case !c.pinned:
		c.host, c.pinned = id, true
	case id != "" && id == c.host:
	case l.endpoint == c.good && (id == "" || c.host == ""): // another version of the daemon serves this endpoint now
		c.host = cmp.Or(c.host, id)
	case id == "" || c.host == "":
		return errkind.Errorf(errkind.Incompatible, "it may be another host: this daemon, or the previous one, does not state its host")
	default:
		return errkind.Errorf(errkind.Incompatible, "it is another host than before")
	}
	return nil
}

// leaves records the operation for which the host reboots; "" means that it does not.
func (c *Client) leaves(operation string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = operation
}

// moveTo accepts a host with another identity if an operation has rebooted the known
// host and the new host knows the operation: an installed system has its own identity.
// Otherwise it returns the refusal, or why the new host has not answered.
func (c *Client) moveTo(ctx context.Context, l *link, refusal error) error {
	c.mu.Lock()
	operation := c.leaving
	c.mu.Unlock()
	if operation == "" {
		return refusal
	}
	_, err := operationsv1.NewOperationsServiceClient(l.conn).Get(ctx, &operationsv1.GetRequest{Id: operation})
	switch {
	case err != nil && (ctx.Err() != nil || status.Code(err) == codes.Unavailable):
		return whyShaken(ctx, err, nil)
	case err != nil:
		return refusal
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host = l.server.GetHostId()
	return nil
}

// hopeless reports whether waiting is useless: no endpoint ever accepted a connection,
// and the last attempt failed.
func (c *Client) hopeless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.reached && c.refused
}

// unsent reports whether a call failed before it was sent.
func unsent(err error) bool {
	return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), errSpent.Error())
}

func apiPackages() []string {
	return []string{
		"trident.handles.v1", "trident.host.v1", "trident.machine.v1", "trident.operations.v1", "trident.self.v1", "trident.setup.v1",
		"trident.v1", "trident.v1preview",
	}
}

// require returns an error that names the given capabilities that the daemon lacks.
func (l *link) require(capabilities ...string) error {
	lacking := strings.Join(slices.DeleteFunc(slices.Clone(capabilities), l.can), ", ")
	if lacking == "" {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "tridentd %s at %s lacks %s", l.server.GetServerVersion(), l.target, lacking)
	if l.server.GetServerVersion() == "" {
		err = errkind.Errorf(errkind.Precondition, "the daemon at %s has no handshake, and may lack %s", l.target, lacking)
	}
	return errkind.WithHint(err, "Upgrade Trident on this host, or use an older client.")
}
