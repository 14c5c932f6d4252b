package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// Check returns the version of the daemon that answers on a socket, which may be this
// process. It tests the whole path of a call.
func Check(ctx context.Context, socket string) (version string, err error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", socket, err)
	}
	defer conn.Close()
	resp, err := tridentv1.NewVersionServiceClient(conn).Version(ctx, &tridentv1.VersionRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", socket, err)
	}
	return resp.GetVersion(), nil
}
