package api

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

// statusServer reads the recorded status of the host. It never waits for servicing.
type statusServer struct {
	tridentv1preview.UnimplementedStatusServiceServer
	store *hoststate.Store
}

// GetProvisionedConfig returns the configuration that the host runs.
func (s *statusServer) GetProvisionedConfig(ctx context.Context, _ *tridentv1preview.GetConfigRequest) (*tridentv1preview.GetConfigResponse, error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return nil, err
	}
	runs, _ := configsOf(status)
	if runs == "" {
		return nil, errkind.WithHint(
			errkind.WithName(errkind.Errorf(errkind.Precondition, "read the configuration of the host: the host is not provisioned"), errkind.NameHostNotProvisioned),
			"update it to a Host Configuration first")
	}
	return configToWire(runs), nil
}

// GetServicingConfig returns the configuration that is staged or on trial; without one,
// nothing is being serviced.
func (s *statusServer) GetServicingConfig(ctx context.Context, _ *tridentv1preview.GetConfigRequest) (*tridentv1preview.GetConfigResponse, error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return nil, err
	}
	_, next := configsOf(status)
	return configToWire(next), nil
}

func (s *statusServer) GetLastError(ctx context.Context, _ *tridentv1preview.GetLastErrorRequest) (*tridentv1preview.GetLastErrorResponse, error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &tridentv1preview.GetLastErrorResponse{Error: lastErrorToWire(status.LastError)}, nil
}

func (s *statusServer) GetServicingState(ctx context.Context, _ *tridentv1preview.GetServicingStateRequest) (*tridentv1preview.GetServicingStateResponse, error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &tridentv1preview.GetServicingStateResponse{State: stateToWire(status.Phase)}, nil
}

func (s *statusServer) GetActiveVolume(ctx context.Context, _ *tridentv1preview.GetActiveVolumeRequest) (*tridentv1preview.GetActiveVolumeResponse, error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := tridentv1preview.ABVolumeState_NO_VOLUME
	switch status.ABActiveVolume {
	case hoststate.VolumeA:
		out = tridentv1preview.ABVolumeState_VOLUME_A
	case hoststate.VolumeB:
		out = tridentv1preview.ABVolumeState_VOLUME_B
	}
	return &tridentv1preview.GetActiveVolumeResponse{ActiveVolume: out}, nil
}

// configsOf returns the configuration that a host runs and the one that is staged or on
// trial; "" is none. A configuration on trial becomes the running one when it is kept.
func configsOf(s hoststate.Status) (runs, next string) {
	switch s.Phase.(type) {
	case hoststate.Settled:
		return s.Spec, ""
	case hoststate.Fresh:
		return "", ""
	}
	return s.SpecOld, s.Spec
}

// configToWire omits an empty configuration.
func configToWire(spec string) *tridentv1preview.GetConfigResponse {
	if spec == "" {
		return &tridentv1preview.GetConfigResponse{}
	}
	return &tridentv1preview.GetConfigResponse{Config: &tridentv1.HostConfiguration{Config: specToText(spec)}}
}

func stateToWire(p hoststate.Phase) tridentv1preview.ServicingState {
	switch p {
	case hoststate.Fresh{}:
		return tridentv1preview.ServicingState_NOT_PROVISIONED
	case hoststate.Settled{}:
		return tridentv1preview.ServicingState_PROVISIONED
	case hoststate.StagedInstall:
		return tridentv1preview.ServicingState_INSTALL_STAGED
	case hoststate.StagedABUpdate:
		return tridentv1preview.ServicingState_UPDATE_AB_STAGED
	case hoststate.StagedRuntimeUpdate:
		return tridentv1preview.ServicingState_UPDATE_RUNTIME_STAGED
	case hoststate.StagedABRollback:
		return tridentv1preview.ServicingState_MANUAL_ROLLBACK_AB_STAGED
	case hoststate.StagedRuntimeRollback:
		return tridentv1preview.ServicingState_MANUAL_ROLLBACK_RUNTIME_STAGED
	case hoststate.TryingInstall:
		return tridentv1preview.ServicingState_INSTALL_FINALIZED
	case hoststate.TryingABUpdate:
		return tridentv1preview.ServicingState_UPDATE_AB_FINALIZED
	case hoststate.TryingABUpdateFailed:
		return tridentv1preview.ServicingState_UPDATE_AB_HEALTH_CHECK_FAILED
	case hoststate.TryingABRollback:
		return tridentv1preview.ServicingState_MANUAL_ROLLBACK_AB_FINALIZED
	}
	return tridentv1preview.ServicingState_SERVICING_STATE_UNSPECIFIED
}
