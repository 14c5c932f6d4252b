package client

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/proto/errkind"
)

// headerAuthorization carries a bearer token (RFC 6750, 2.1).
const headerAuthorization = "authorization"

// WithToken has each call over tls:// carry the bearer token that token returns. The client
// calls token for each attempt, so the token may change. It never sends a token over another
// connection; Dial fails if no target is tls://.
func WithToken(token func(context.Context) (string, error)) Option {
	return func(c *Client) { c.token = token }
}

// Token is the function for WithToken of a token that does not change.
func Token(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// checkToken fails if there is a token and no target for it.
func (c *Client) checkToken() error {
	if c.token == nil {
		return nil
	}
	for _, e := range c.endpoints {
		if e.overTLS {
			return nil
		}
	}
	err := errkind.Errorf(errkind.Invalid, "connect to tridentd at %s: a token is sent only over tls://", c.target)
	return errkind.WithHint(err, "Omit the token, or name a target of the form tls://host:port.")
}

// authorized returns ctx with the token in the header of the call.
func (c *Client) authorized(ctx context.Context) (context.Context, error) {
	token, err := c.token(ctx)
	if err != nil {
		err = fmt.Errorf("get the token: %w", err)
		if errkind.Of(err) == errkind.Internal {
			err = errkind.With(errkind.Precondition, err)
		}
		return ctx, err
	}
	// RFC 6750, 2.1: b64token.
	if isForeign := func(r rune) bool { return r <= ' ' || r > '~' }; token == "" || strings.ContainsFunc(token, isForeign) {
		return ctx, errkind.Errorf(errkind.Invalid, "get the token: it is empty, or has blanks or other characters that a token may not have")
	}
	return metadata.AppendToOutgoingContext(ctx, headerAuthorization, "Bearer "+token), nil
}

// tokenOptions have each call of a connection carry the token.
func (c *Client) tokenOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			ctx, err := c.authorized(ctx)
			if err != nil {
				return err
			}
			return invoke(ctx, method, req, reply, conn, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			ctx, err := c.authorized(ctx)
			if err != nil {
				return nil, err
			}
			return stream(ctx, desc, conn, method, opts...)
		}),
	}
}
