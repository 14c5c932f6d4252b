package client

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// missing adds the method's name to the error of an unknown method. Daemons of other
// makers send a code without a text, or the text of their gRPC library.
func missing(method string, err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok || st.Code() != codes.Unimplemented || len(st.Details()) > 0 {
		return err
	}
	if said := st.Message(); said != "" && !strings.HasPrefix(said, "unknown service") && !strings.HasPrefix(said, "unknown method") {
		return err
	}
	service, verb, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return status.Errorf(codes.Unimplemented, "the daemon does not have %s of %s: it is upstream's, or another version of Trident", verb, service)
}

func missingUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return missing(method, invoke(ctx, method, req, reply, cc, opts...))
}

func missingStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, missing(method, err)
	}
	return &namedStream{s, method}, nil
}

// namedStream is a stream whose errors pass through missing.
type namedStream struct {
	grpc.ClientStream
	method string
}

func (s *namedStream) RecvMsg(m any) error { return missing(s.method, s.ClientStream.RecvMsg(m)) }
