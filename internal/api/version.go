package api

import (
	"context"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

type versionServer struct {
	tridentv1.UnimplementedVersionServiceServer
	version string
}

// Version takes no lock and reads nothing, so it answers whenever the daemon runs.
func (s versionServer) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{Version: s.version}, nil
}
