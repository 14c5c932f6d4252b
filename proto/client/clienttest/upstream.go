package clienttest

import (
	"context"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

type updateServer struct {
	tridentv1.UnimplementedUpdateServiceServer
	*Server
}

func (s updateServer) Update(req *tridentv1.UpdateRequest, stream servicingStream) error {
	return s.service(stream, "host-update", "update the host", req.GetFinalize().GetReboot(), req.GetStage().GetConfig())
}

func (s updateServer) UpdateStage(req *tridentv1.StageUpdateRequest, stream servicingStream) error {
	return s.service(stream, "host-update-stage", "stage an update", nil, req.GetConfig())
}

func (s updateServer) UpdateFinalize(req *tridentv1.FinalizeUpdateRequest, stream servicingStream) error {
	return s.service(stream, "host-update-finalize", "finalize an update", req.GetReboot(), nil)
}

type commitServer struct {
	tridentv1.UnimplementedCommitServiceServer
	*Server
}

func (s commitServer) Commit(req *tridentv1.CommitRequest, stream servicingStream) error {
	if op, after := s.tried(stream); op != nil {
		return s.show(stream, op, after)
	}
	return s.service(stream, "host-commit", "commit the host", req.GetReboot(), nil)
}

type streamingServer struct {
	tridentv1.UnimplementedStreamingServiceServer
	*Server
}

func (s streamingServer) StreamDisk(req *tridentv1.StreamDiskRequest, stream servicingStream) error {
	return s.service(stream, "host-stream-disk", "write disks from an image", req.GetReboot(), nil)
}

type checkServer struct {
	tridentv1preview.UnimplementedCommitServiceServer
	*Server
}

func (s checkServer) CheckRoot(_ *tridentv1preview.CheckRootRequest, stream servicingStream) error {
	return s.service(stream, "host-check-root", "check the root file system", nil, nil)
}

type installServer struct {
	tridentv1preview.UnimplementedInstallServiceServer
	*Server
}

func (s installServer) Install(req *tridentv1preview.InstallRequest, stream servicingStream) error {
	return s.service(stream, "host-install", "install the host", req.GetFinalize().GetReboot(), req.GetStage().GetConfig())
}

func (s installServer) InstallStage(req *tridentv1preview.StageInstallRequest, stream servicingStream) error {
	return s.service(stream, "host-install-stage", "stage an installation", nil, req.GetConfig())
}

func (s installServer) InstallFinalize(req *tridentv1preview.FinalizeInstallRequest, stream servicingStream) error {
	return s.service(stream, "host-install-finalize", "finalize an installation", req.GetReboot(), nil)
}

type raidServer struct {
	tridentv1preview.UnimplementedRebuildRaidServiceServer
	*Server
}

func (s raidServer) RebuildRaid(_ *tridentv1preview.RebuildRaidRequest, stream servicingStream) error {
	return s.service(stream, "host-rebuild-raid", "rebuild RAID arrays", nil, nil)
}

type rollbackServer struct {
	tridentv1preview.UnimplementedRollbackServiceServer
	*Server
}

func (s rollbackServer) Rollback(req *tridentv1preview.RollbackRequest, stream servicingStream) error {
	return s.service(stream, "host-rollback", "roll the host back", req.GetFinalize().GetReboot(), nil)
}

func (s rollbackServer) RollbackStage(_ *tridentv1preview.RollbackStageRequest, stream servicingStream) error {
	return s.service(stream, "host-rollback-stage", "stage a rollback", nil, nil)
}

func (s rollbackServer) RollbackFinalize(req *tridentv1preview.RollbackFinalizeRequest, stream servicingStream) error {
	return s.service(stream, "host-rollback-finalize", "finalize a rollback", req.GetReboot(), nil)
}

func (s rollbackServer) CheckRollback(context.Context, *tridentv1preview.CheckRollbackRequest) (*tridentv1preview.CheckRollbackResponse, error) {
	kind := tridentv1preview.CheckRollbackKind_NO_ROLLBACK_AVAILABLE
	if targets := s.host().GetRollbackTargets(); len(targets) > 0 {
		kind = tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED
		if targets[0].GetKind() == "ab" {
			kind = tridentv1preview.CheckRollbackKind_AB_ROLLBACK_EXPECTED
		}
	}
	return &tridentv1preview.CheckRollbackResponse{Kind: kind}, nil
}

func (s rollbackServer) GetRollbackChain(context.Context, *tridentv1preview.GetRollbackChainRequest) (*tridentv1preview.GetRollbackChainResponse, error) {
	resp := &tridentv1preview.GetRollbackChainResponse{}
	for _, t := range s.host().GetRollbackTargets() {
		resp.RollbackChain = append(resp.RollbackChain, t.GetConfig())
	}
	return resp, nil
}

func (s rollbackServer) GetRollbackTarget(context.Context, *tridentv1preview.GetRollbackTargetRequest) (*tridentv1preview.GetRollbackTargetResponse, error) {
	resp := &tridentv1preview.GetRollbackTargetResponse{}
	if targets := s.host().GetRollbackTargets(); len(targets) > 0 {
		resp.RollbackTarget = &targets[0].Config
	}
	return resp, nil
}

type statusServer struct {
	tridentv1preview.UnimplementedStatusServiceServer
	*Server
}

func (s statusServer) GetProvisionedConfig(context.Context, *tridentv1preview.GetConfigRequest) (*tridentv1preview.GetConfigResponse, error) {
	return &tridentv1preview.GetConfigResponse{Config: &tridentv1.HostConfiguration{Config: s.host().GetConfig()}}, nil
}

func (s statusServer) GetServicingConfig(context.Context, *tridentv1preview.GetConfigRequest) (*tridentv1preview.GetConfigResponse, error) {
	return &tridentv1preview.GetConfigResponse{Config: &tridentv1.HostConfiguration{Config: s.host().GetNextConfig()}}, nil
}

func (s statusServer) GetLastError(context.Context, *tridentv1preview.GetLastErrorRequest) (*tridentv1preview.GetLastErrorResponse, error) {
	return &tridentv1preview.GetLastErrorResponse{Error: s.host().GetLastError()}, nil
}

func (s statusServer) GetServicingState(context.Context, *tridentv1preview.GetServicingStateRequest) (*tridentv1preview.GetServicingStateResponse, error) {
	state, ok := map[string]tridentv1preview.ServicingState{
		"not-provisioned": tridentv1preview.ServicingState_NOT_PROVISIONED, "runtime-update-staged": tridentv1preview.ServicingState_UPDATE_RUNTIME_STAGED,
		"ab-update-staged": tridentv1preview.ServicingState_UPDATE_AB_STAGED, "ab-update-finalized": tridentv1preview.ServicingState_UPDATE_AB_FINALIZED,
	}[s.host().GetServicingState()]
	if !ok {
		state = tridentv1preview.ServicingState_PROVISIONED
	}
	return &tridentv1preview.GetServicingStateResponse{State: state}, nil
}

func (s statusServer) GetActiveVolume(context.Context, *tridentv1preview.GetActiveVolumeRequest) (*tridentv1preview.GetActiveVolumeResponse, error) {
	volume, ok := map[string]tridentv1preview.ABVolumeState{
		"volume-a": tridentv1preview.ABVolumeState_VOLUME_A, "volume-b": tridentv1preview.ABVolumeState_VOLUME_B,
	}[s.host().GetActiveVolume()]
	if !ok {
		volume = tridentv1preview.ABVolumeState_NO_VOLUME
	}
	return &tridentv1preview.GetActiveVolumeResponse{ActiveVolume: volume}, nil
}

type validationServer struct {
	tridentv1preview.UnimplementedValidationServiceServer
	*Server
}

func (s validationServer) ValidateHostConfiguration(context.Context, *tridentv1preview.ValidateHostConfigurationRequest) (*tridentv1preview.ValidateHostConfigurationResponse, error) {
	resp := &tridentv1preview.ValidateHostConfigurationResponse{Ok: true}
	if first := s.fault(); first != nil {
		resp.Ok = false
		resp.Error = &tridentv1.TridentError{Kind: tridentv1.TridentErrorKind_INVALID_INPUT_ERROR, Subkind: first.GetName(), Message: first.GetMessage()}
	}
	return resp, nil
}

func (s validationServer) GetRequiredServicingType(context.Context, *tridentv1preview.GetRequiredServicingTypeRequest) (*tridentv1preview.GetRequiredServicingTypeResponse, error) {
	servicing := tridentv1preview.ServicingType_NO_ACTIVE_SERVICING
	switch s.config.Plan.GetKind() {
	case tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE:
		servicing = tridentv1preview.ServicingType_RUNTIME_UPDATE
	case tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE:
		servicing = tridentv1preview.ServicingType_AB_UPDATE
	case tridentv1.ServicingKind_SERVICING_KIND_CLEAN_INSTALL:
		servicing = tridentv1preview.ServicingType_CLEAN_INSTALL
	}
	return &tridentv1preview.GetRequiredServicingTypeResponse{ServicingType: servicing}, nil
}
