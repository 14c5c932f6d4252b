package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

// unreachable adds a hint to the status of a tridentd that could not be reached.
func unreachable(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok || st.Code() != codes.Unavailable || len(st.Details()) > 0 {
		return err
	}
	return grpckind.Error(errkind.WithHint(errkind.Errorf(errkind.Unavailable, "reach tridentd: %s", st.Message()),
		"try again; if it stays, see journalctl -u tridentd -u trident-gateway on the host"), nil)
}

// connection returns the connection to tridentd that belongs to this one.
func (c *session) connection() (patient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upstream != nil {
		return patient{c.upstream, c.server.againTime}, nil
	}
	conn, err := grpc.NewClient("passthrough:///tridentd",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: dialPause, Multiplier: 1.6, MaxDelay: time.Second}, MinConnectTimeout: dialTime}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
		// A window that never changes, because gRPC would measure the connection with pings: two
		// frames more for each call.
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(maxAnswer),
		grpc.WithUserAgent("trident-gateway"))
	if err != nil {
		return patient{}, err
	}
	c.upstream = conn
	return patient{conn, c.server.againTime}, nil
}

// dial connects to tridentd, and has it started if it does not run. If that connection ends, a
// caller's connection of gRPC ends too, after its running calls.
func (c *session) dial(ctx context.Context) (net.Conn, error) {
	socket := c.server.state.Load().config.Socket
	var asked time.Time
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			return &closing{Conn: conn, closed: c.upstreamClosed}, nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) || c.server.wake == "" {
			return nil, err
		}
		if time.Since(asked) >= time.Second { // again: tridentd may have been about to end
			asked = time.Now()
			if werr := os.WriteFile(c.server.wake, []byte{'\n'}, 0o600); werr != nil {
				return nil, errors.Join(err, werr)
			}
		}
		select {
		case <-time.After(dialPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}
