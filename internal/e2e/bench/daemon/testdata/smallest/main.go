// Command smallest is the least that a gRPC server in Go can be: one method, the
// socket that systemd passes, nothing else. The bench measures tridentd by it.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

type server struct {
	tridentv1.UnimplementedVersionServiceServer
}

func (server) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{Version: "0.0.0"}, nil
}

func main() {
	l, err := net.FileListener(os.NewFile(3, "socket")) // SD_LISTEN_FDS_START
	if err == nil {
		s := grpc.NewServer()
		tridentv1.RegisterVersionServiceServer(s, server{})
		err = s.Serve(l)
	}
	fmt.Fprintln(os.Stderr, "smallest:", err)
	os.Exit(1)
}
