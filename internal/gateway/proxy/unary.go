package proxy

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// isUnary reports whether a method has one request and one answer and is called often. The
// gateway passes on any other method as a stream, which costs more and works as well. The names
// are strings here, because the descriptors of the generated code would be a tenth of the memory
// of an idle gateway.
func isUnary(method string) bool {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case "trident.v1.VersionService":
		return name == "Version"
	case "trident.setup.v1.SetupService":
		return name == "Handshake"
	case "grpc.health.v1.Health":
		return name == "Check"
	case "trident.self.v1.SelfService":
		return name == "GetStatus" || name == "History"
	case "trident.operations.v1.OperationsService":
		return name == "Get" || name == "List"
	case "trident.host.v1.HostService":
		return name == "GetHost"
	case "trident.v1preview.StatusService":
		switch name {
		case "GetProvisionedConfig", "GetServicingConfig", "GetLastError", "GetServicingState", "GetActiveVolume":
			return true
		}
	case "trident.machine.v1.UnitService":
		return name == "ListUnits" || name == "ShowUnit"
	case "trident.machine.v1.SystemService":
		switch name {
		case "GetVersion", "GetUptime", "GetLoad", "GetMemory", "GetCpus", "GetStat", "ListDisks", "ListNetworkDevices", "ListMounts", "GetArguments":
			return true
		}
	}
	return false
}

// passUnary passes on a call with one request and one answer. It saves most of the cost of a
// short call that is passed on as a stream: goroutines, a timer, and frames.
func (c *session) passUnary(stream grpc.ServerStream, conn grpc.ClientConnInterface, method, who string) error {
	ctx := stream.Context()
	var request, answer frame
	if err := stream.RecvMsg(&request); errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "pass on the call: the caller has sent no request")
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
