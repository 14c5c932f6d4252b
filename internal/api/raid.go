package api

import (
	"context"

	"github.com/trident-project/trident/proto/trident/v1preview"
)

// rebuilder makes degraded arrays of the host whole again.
type rebuilder interface {
	RebuildRAID(ctx context.Context) (operationID string, err error)
}

type raidServer struct {
	tridentv1preview.UnimplementedRebuildRaidServiceServer
	servicer
	arrays rebuilder
}

func (s *raidServer) RebuildRaid(_ *tridentv1preview.RebuildRaidRequest, stream servicingStream) error {
	return s.run(stream, nil, func(ctx context.Context, _ bool) (string, error) { return s.arrays.RebuildRAID(ctx) })
}
