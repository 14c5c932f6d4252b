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
	if err := needBoth(req.GetStage() != nil, req.GetFinalize() != nil); err != nil {
		return err
	}
	return s.update(stream, "stage.config", req.GetStage().GetConfig(), req.GetFinalize().GetReboot(), true)
}

func (s *updateServer) UpdateStage(req *tridentv1.StageUpdateRequest, stream servicingStream) error {
	return s.update(stream, "config", req.GetConfig(), nil, false)
}

// update stages an update, and also finalizes it if finalize is set.
func (s *updateServer) update(stream servicingStream, field string, config *tridentv1.HostConfiguration, reboot *tridentv1.RebootManagement, finalize bool) error {
	return s.run(stream, reboot, func(ctx context.Context, callerReboots bool) (string, error) {
		parsed, err := s.config(ctx, field, config)
		if err != nil {
			return "", err
		}
		return s.host.Update(ctx, servicing.UpdateRequest{Config: parsed, Stage: true, Finalize: finalize, CallerReboots: callerReboots})
	})
}

func (s *updateServer) UpdateFinalize(req *tridentv1.FinalizeUpdateRequest, stream servicingStream) error {
	return s.run(stream, req.GetReboot(), s.host.Finalize)
}
