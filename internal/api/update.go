package api

import (
	"context"

	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

type updateServer struct {
	tridentv1.UnimplementedUpdateServiceServer
	servicer
}

func (s *updateServer) Update(req *tridentv1.UpdateRequest, stream servicingStream) error {
	if req.GetStage() == nil {
		return missing("stage", "what to stage")
	}
	if req.GetFinalize() == nil {
		return missing("finalize", "how to finalize")
	}
	return s.update(stream, "stage.config", req.GetStage().GetConfig(), req.GetFinalize().GetReboot(), true)
}

func (s *updateServer) UpdateStage(req *tridentv1.StageUpdateRequest, stream servicingStream) error {
	return s.update(stream, "config", req.GetConfig(), nil, false)
}

// update stages an update, and also finalizes it if finalize is set.
func (s *updateServer) update(stream servicingStream, field string, config *tridentv1.HostConfiguration, reboot *tridentv1.RebootManagement, finalize bool) error {
	callerReboots, err := rebootFromWire(reboot)
	if err != nil {
		return err
	}
	return s.run(stream, callerReboots, func(ctx context.Context) (string, error) {
		parsed, err := s.config(ctx, field, config)
		if err != nil {
			return "", err
		}
		return s.host.Update(ctx, servicing.UpdateRequest{Config: parsed, Stage: true, Finalize: finalize, CallerReboots: callerReboots})
	})
}

func (s *updateServer) UpdateFinalize(req *tridentv1.FinalizeUpdateRequest, stream servicingStream) error {
	callerReboots, err := rebootFromWire(req.GetReboot())
	if err != nil {
		return err
	}
	return s.run(stream, callerReboots, func(ctx context.Context) (string, error) {
		return s.host.Finalize(ctx, callerReboots)
	})
}
