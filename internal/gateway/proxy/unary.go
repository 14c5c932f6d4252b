package proxy

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// unaryMethods returns the methods of which this program knows that they have one request and
// one answer. JSON-RPC has most of them. A method that is missing here is passed on as a stream.
func unaryMethods() map[string]bool {
	all := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				if m := methods.Get(j); !m.IsStreamingClient() && !m.IsStreamingServer() {
					all["/"+string(m.Parent().FullName())+"/"+string(m.Name())] = true
				}
			}
		}
		return true
	})
	return all
}

// passUnary passes on a call with one request and one answer. What it saves, compared with a
// stream, is most of what a short call costs: goroutines, a timer, and frames.
func (c *session) passUnary(stream grpc.ServerStream, conn grpc.ClientConnInterface, method, who string) error {
	ctx := stream.Context()
	var request, answer frame
	if err := stream.RecvMsg(&request); errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "the call has no request")
	} else if err != nil {
		return err
	}
	defer request.free()
	if err := c.server.callers.Pass(ctx, who, request.data.Len(), c.server.now()); err != nil {
		return err
	}
	var header, trailer metadata.MD
	err := conn.Invoke(metadata.NewOutgoingContext(ctx, outgoing(ctx, who)), method, &request, &answer, grpc.Header(&header), grpc.Trailer(&trailer), grpc.ForceCodecV2(rawCodec{}))
	defer answer.free()
	if err == nil {
		err = c.server.callers.Pass(ctx, who, answer.data.Len(), c.server.now())
	}
	if len(header) > 0 {
		_ = stream.SetHeader(header) // SendMsg has the error
	}
	stream.SetTrailer(trailer)
	if err != nil {
		return unreachable(err)
	}
	return stream.SendMsg(&answer)
}
