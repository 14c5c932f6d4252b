package proxy

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/audit"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	"github.com/trident-project/trident/proto/wire"
)

const (
	// dialTime bounds the wait for tridentd, which may have to be started first.
	dialTime = 20 * time.Second
	// dialPause is the time between two attempts to connect to tridentd while it starts.
	dialPause = 20 * time.Millisecond
)

// handle serves one call. It is the handler of all methods.
func (c *session) handle(_ any, stream grpc.ServerStream) error {
	s, begin := c.server, c.server.now()
	s.used.Add(1)
	method, _ := grpc.MethodFromServerStream(stream)
	entry := audit.Entry{Time: begin.UTC(), Peer: c.peer.String()}
	if right, ok := rights.Of(method); ok { // another text could have a secret in it
		entry.Method, entry.Right = method, string(right)
	}
	who, err := c.permit(stream.Context(), method, begin, &entry)
	if err != nil {
		s.refused.warn("call refused", "peer", entry.Peer, "identity", entry.Identity, "method", entry.Method, "reason", err)
		entry.Reason = err.Error()
		if who == nil {
			err = c.unauthenticated(stream.Context(), err)
		} else {
			err = grpckind.Error(err, nil)
		}
	} else {
		err = c.serve(stream, method, who)
	}
	entry.Result, entry.Seconds = status.Code(err).String(), s.now().Sub(begin).Seconds()
	s.record(entry)
	return err
}

// record writes a line of the audit log; on average one a second for callers who could not
// log in.
func (s *Server) record(entry audit.Entry) {
	if entry.Identity == "" {
		end, err := s.strangers.Begin("strangers", s.now())
		if err != nil {
			return
		}
		defer end()
	}
	if fault := s.audit.Write(entry); fault != nil {
		s.logger.Error("the audit log refuses a line, which is here instead", "error", fault, "identity", entry.Identity, "peer", entry.Peer,
			"method", entry.Method, "result", entry.Result)
	}
}

// unauthenticated returns the status of a caller that could not log in. A source that fails
// often waits for it.
func (c *session) unauthenticated(ctx context.Context, err error) error {
	if !c.server.logins.Failed(ctx, c.peer.Addr(), c.server.now()) {
		c.abort()
	}
	st, _ := status.FromError(grpckind.Error(err, nil))
	if st.Code() != codes.PermissionDenied {
		return st.Err()
	}
	p := st.Proto()
	p.Code = int32(codes.Unauthenticated)
	return status.FromProto(p).Err()
}

// permit returns who makes a call, or why the call is refused; with a login if the caller
// has logged in.
func (c *session) permit(ctx context.Context, method string, now time.Time, entry *audit.Entry) (*login, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	l, err := c.authenticate(md.Get("authorization"), now)
	if err != nil {
		return nil, err
	}
	entry.Identity, entry.By, entry.Serial = l.who, l.by, l.serial
	if len(md.Get(wire.HeaderAskedBy)) > 0 {
		return l, errkind.WithHint(errkind.Errorf(errkind.Denied, "call for %s: a caller may not name an identity (%s)", l.who, wire.HeaderAskedBy), "call without this header")
	}
	return l, c.server.state.Load().rightsOf(l, now).Check(l.who, method)
}

// bearer returns the token of an authorization header (RFC 6750, 2.1).
func bearer(values []string) (string, error) {
	scheme, text, ok := strings.Cut(values[0], " ")
	if len(values) != 1 || !ok || !strings.EqualFold(scheme, "Bearer") || text == "" || len(text) > 512 {
		return "", errkind.WithHint(errkind.Errorf(errkind.Denied, "log in: the metadata authorization is not one Bearer and a token"),
			"send the metadata authorization: Bearer TOKEN")
	}
	return text, nil
}

// serve passes a permitted call to tridentd.
func (c *session) serve(stream grpc.ServerStream, method string, l *login) error {
	end, err := c.server.callers.Begin(l.who, c.server.now())
	if err != nil {
		c.server.refused.warn("call over a limit", "peer", c.peer.String(), "identity", l.who, "reason", err)
		return grpckind.Error(err, nil)
	}
	defer end()
	conn, err := c.connection()
	if err != nil {
		return grpckind.Error(err, nil)
	}
	if isUnary(method) {
		return c.passUnary(stream, conn, method, l.who)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	out, err := conn.NewStream(metadata.NewOutgoingContext(ctx, outgoing(stream.Context(), l.who)), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return unreachable(err)
	}
	go func() {
		if err := c.requests(ctx, stream, out, l.who); err != nil {
			cancel(err)
		}
	}()
	err = c.answers(ctx, stream, out, l.who)
	if cause := context.Cause(ctx); cause != nil && stream.Context().Err() == nil {
		return cause // the caller's message was refused
	}
	return unreachable(err)
}

// outgoing returns the metadata for tridentd: the caller's without its credentials, and the
// identity.
func outgoing(ctx context.Context, who string) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	for key := range md {
		if strings.HasPrefix(key, ":") {
			delete(md, key)
		}
	}
	md.Delete("authorization")
	md.Set(wire.HeaderAskedBy, who)
	return md
}

// requests passes the caller's messages on until the caller has sent the last one. An error
// is that of the caller's stream.
func (c *session) requests(ctx context.Context, from grpc.ServerStream, to grpc.ClientStream, who string) error {
	for {
		var f frame
		if err := from.RecvMsg(&f); errors.Is(err, io.EOF) {
			return to.CloseSend()
		} else if err != nil {
			return err
		}
		if err := c.server.callers.Pass(ctx, who, f.data.Len(), c.server.now()); err != nil {
			return err
		}
		if err := to.SendMsg(&f); err != nil {
			return nil // answers gets the reason
		}
	}
}

// answers passes headers, messages and trailers of tridentd on, and returns its status.
func (c *session) answers(ctx context.Context, to grpc.ServerStream, from grpc.ClientStream, who string) error {
	h := &headers{to: to}
	defer h.send(false)
	header, err := from.Header()
	if err == nil {
		h.expect(header)
	}
	for err == nil {
		var f frame
		if err = from.RecvMsg(&f); err != nil {
			break
		}
		if err = c.server.callers.Pass(ctx, who, f.data.Len(), c.server.now()); err == nil {
			h.send(false)
			err = to.SendMsg(&f)
		}
	}
	to.SetTrailer(from.Trailer())
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
