package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/errkind"
)

// encoded is a request as received. gRPC has one limit of size for all methods; the gate
// checks that of the method before it decodes the request.
type encoded []byte

// codec is gRPC's codec, which also accepts encoded.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if e, ok := v.(*encoded); ok {
		*e = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// decode decodes a request into m. It fails with TooLarge above the limit of the method.
func (g *gate) decode(method string, from encoded, m any) error {
	if limit := g.rules[method].limit(); len(from) > limit {
		return errkind.WithHint(
			errkind.Errorf(errkind.TooLarge, "%s: the request has %d bytes, and may have %d", method, len(from), limit),
			"send less at a time")
	}
	message, ok := m.(proto.Message)
	if !ok {
		return errkind.Errorf(errkind.Internal, "%s: decode the request: %T is not a protobuf message", method, m)
	}
	if err := proto.Unmarshal(from, message); err != nil {
		return errkind.Errorf(errkind.Invalid, "%s: decode the request: %w", method, err)
	}
	return nil
}

// registrar registers services whose unary methods decode through the gate.
type registrar struct {
	*grpc.Server
	gate *gate
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = nil
	for _, m := range desc.Methods {
		method, handler := "/"+desc.ServiceName+"/"+m.MethodName, m.Handler
		m.Handler = func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			return handler(srv, ctx, func(m any) error {
				var from encoded
				if err := decode(&from); err != nil {
					return err
				}
				return r.gate.status(method, r.gate.decode(method, from, m))
			}, intercept)
		}
		own.Methods = append(own.Methods, m)
	}
	r.Server.RegisterService(&own, impl)
}
