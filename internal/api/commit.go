package api

import (
	"context"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

type commitServer struct {
	tridentv1.UnimplementedCommitServiceServer
	servicer
}

// Commit shows the operation that keeps the system that is booted, or rolls it back.
// Mostly that operation began before the boot.
func (s *commitServer) Commit(req *tridentv1.CommitRequest, stream servicingStream) error {
	callerReboots, err := rebootFromWire(req.GetReboot())
	if err != nil {
		return err
	}
	p := &projection{servicer: s.servicer, stream: stream, callerReboots: callerReboots, commit: true}
	return p.run(func(ctx context.Context) (string, error) {
		id, err := s.host.Commit(ctx, callerReboots)
		if err == nil && id != "" {
			// If this fails, a repetition of the request counts as a new one.
			_ = s.runner.Attach(ctx, id)
		}
		return id, err
	})
}

type checkServer struct {
	tridentv1preview.UnimplementedCommitServiceServer
	servicer
}

func (s *checkServer) CheckRoot(_ *tridentv1preview.CheckRootRequest, stream servicingStream) error {
	return s.run(stream, nil, func(ctx context.Context, _ bool) (string, error) { return s.host.CheckRoot(ctx) })
}
