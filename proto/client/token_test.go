package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// headers collects the authorization headers of the calls of a client.
type headers struct {
	mu  sync.Mutex
	all []string
}

func (s *headers) note(ctx context.Context) {
	md, _ := metadata.FromOutgoingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, strings.Join(md.Get("authorization"), "+"))
}

// option sees each attempt after the client's own interceptors.
func (s *headers) option() client.Option {
	return client.WithGRPC(
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			s.note(ctx)
			return invoke(ctx, method, req, reply, c, o...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, stream grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			s.note(ctx)
			return stream(ctx, d, c, method, o...)
		}))
}

func TestTheTokenGoesOverTLSOnly(t *testing.T) {
	ours := newAuthority(t)
	leaf := ours.leaf(t)
	target := gateway(t, clienttest.New(clienttest.Config{Version: "1"}), &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}})
	_, socket := serveSocket(t, clienttest.Config{Version: "2"})

	var over headers
	c, err := client.Dial(target, client.WithTLS(&tls.Config{RootCAs: ours.pool}), client.WithToken(client.Token("abc")), over.option())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenConfig(t.Context(), []byte("x: y")); err != nil { // a stream
		t.Fatal(err)
	}
	if len(over.all) < 3 { // the handshake is the first
		t.Errorf("%d calls", len(over.all))
	}
	for _, header := range over.all {
		if header != "Bearer abc" {
			t.Errorf("authorization %q", header)
		}
	}

	var plain headers
	c, err = client.Dial(socket, client.WithAlternatives(target), client.WithToken(client.Token("abc")), plain.option())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if v, err := c.Version(t.Context()); v != "2" || err != nil {
		t.Fatalf("version %q, %v", v, err)
	}
	for _, header := range plain.all {
		if header != "" {
			t.Errorf("over the socket: authorization %q", header)
		}
	}
}

func TestATokenWithoutATLSTargetIsRefused(t *testing.T) {
	for _, target := range []string{"/x", "ssh://a"} {
		_, err := client.Dial(target, client.WithToken(client.Token("geheim")))
		if client.Kind(err) != client.KindInvalid || !strings.Contains(err.Error(), "a token is sent only over tls://") || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestATokenThatCannotBeHadIsAnError(t *testing.T) {
	ours := newAuthority(t)
	target := gateway(t, clienttest.New(clienttest.Config{Version: "1"}), &tls.Config{Certificates: []tls.Certificate{ours.leaf(t)}, NextProtos: []string{"h2"}})
	for name, tt := range map[string]struct {
		token func(context.Context) (string, error)
		kind  client.ErrorKind
		text  string
	}{
		"empty":        {client.Token(""), client.KindInvalid, "it is empty"},
		"a line break": {client.Token("geheim\n"), client.KindInvalid, "other characters"},
		"no file":      {func(context.Context) (string, error) { return "", errors.New("no file") }, client.KindPrecondition, "get the token: no file"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := client.Dial(target, client.WithTLS(&tls.Config{RootCAs: ours.pool}), client.WithToken(tt.token))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_, err = c.Version(t.Context())
			if client.Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "geheim") || client.Retriable(err) {
				t.Errorf("error of kind %s: %v", client.Kind(err), err)
			}
		})
	}
}
