package main

import (
	"slices"
	"strconv"

	"google.golang.org/grpc"

	v1 "example.com/foreign/stubs/trident/v1"
	preview "example.com/foreign/stubs/trident/v1preview"
)

// The ways to refuse, as docs/errors.md lists them.
const (
	invalid      = "InvalidArgument INVALID"
	notFound     = "NotFound NOT_FOUND"
	precondition = "FailedPrecondition PRECONDITION"
	// This daemon cannot do it.
	unsupported = "Unimplemented UNSUPPORTED"
)

// upstream calls the 24 methods of trident.v1 and trident.v1preview, in an order
// in which later answers tell of earlier calls. The configuration is one that an
// empty folder fails at, and a host does not.
func upstream(conn grpc.ClientConnInterface, config string) []call {
	return slices.Concat(reading(conn), changing(conn, config), setUp(conn))
}

// reading calls what changes nothing, on a host that was never serviced.
func reading(conn grpc.ClientConnInterface) []call {
	const status, validation, rollback = "trident.v1preview.StatusService/", "trident.v1preview.ValidationService/", "trident.v1preview.RollbackService/"
	host, check, back := preview.NewStatusServiceClient(conn), preview.NewValidationServiceClient(conn), preview.NewRollbackServiceClient(conn)
	return []call{
		{method: "trident.v1.VersionService/Version", want: "true",
			do: unary(v1.NewVersionServiceClient(conn).Version, &v1.VersionRequest{}, func(r *v1.VersionResponse) string { return yes(r.GetVersion() != "") })},
		{method: status + "GetServicingState", want: "NOT_PROVISIONED", do: unary(host.GetServicingState, &preview.GetServicingStateRequest{}, stateOf)},
		{method: status + "GetActiveVolume", want: "NO_VOLUME", do: unary(host.GetActiveVolume, &preview.GetActiveVolumeRequest{}, volumeOf)},
		{method: status + "GetProvisionedConfig", want: "InvalidArgument PRECONDITION", do: unary(host.GetProvisionedConfig, &preview.GetConfigRequest{}, configOf)},
		{method: status + "GetServicingConfig", want: "", do: unary(host.GetServicingConfig, &preview.GetConfigRequest{}, configOf)},
		{method: status + "GetLastError", want: "", do: unary(host.GetLastError, &preview.GetLastErrorRequest{}, lastOf)},
		{method: validation + "ValidateHostConfiguration", want: "true",
			do: unary(check.ValidateHostConfiguration, &preview.ValidateHostConfigurationRequest{Config: empty()}, validOf)},
		{method: validation + "ValidateHostConfiguration", want: "false parse-host-configuration",
			do: unary(check.ValidateHostConfiguration, &preview.ValidateHostConfigurationRequest{Config: rubbish()}, validOf)},
		{method: validation + "GetRequiredServicingType", want: "NO_ACTIVE_SERVICING",
			do: unary(check.GetRequiredServicingType, &preview.GetRequiredServicingTypeRequest{Config: empty()}, typeOf)},
		{method: rollback + "CheckRollback", want: "NO_ROLLBACK_AVAILABLE", do: unary(back.CheckRollback, &preview.CheckRollbackRequest{}, kindOf)},
		{method: rollback + "GetRollbackChain", want: "0", do: unary(back.GetRollbackChain, &preview.GetRollbackChainRequest{}, lengthOf)},
		{method: rollback + "GetRollbackTarget", want: "", do: unary(back.GetRollbackTarget, &preview.GetRollbackTargetRequest{}, targetOf)},
	}
}

// changing stages, finalizes, commits and takes back.
func changing(conn grpc.ClientConnInterface, config string) []call {
	const (
		update, status, rollback = "trident.v1.UpdateService/", "trident.v1preview.StatusService/", "trident.v1preview.RollbackService/"

		nothing  = "SUCCESS NOT_REQUIRED NONE_REQUIRED"
		updated  = "SUCCESS NOT_REQUIRED RUNTIME_UPDATE"
		returned = "SUCCESS NOT_REQUIRED MANUAL_ROLLBACK_RUNTIME"
		noFile   = "FAILURE NOT_REQUIRED INTERNAL_ERROR populate-extension-images"
		never    = "FAILURE NOT_REQUIRED INVALID_INPUT_ERROR host-not-provisioned"
	)
	up, host, back := v1.NewUpdateServiceClient(conn), preview.NewStatusServiceClient(conn), preview.NewRollbackServiceClient(conn)
	wanted, done := &v1.HostConfiguration{Config: config}, &v1.FinalizeUpdateRequest{}
	whole := func(c *v1.HostConfiguration) *v1.UpdateRequest {
		return &v1.UpdateRequest{Stage: &v1.StageUpdateRequest{Config: c}, Finalize: done}
	}
	return []call{
		{method: update + "Update", want: invalid, do: servicing(up.Update, &v1.UpdateRequest{})},
		{method: update + "Update", want: "FAILURE NOT_REQUIRED INVALID_INPUT_ERROR parse-host-configuration", do: servicing(up.Update, whole(rubbish()))},
		{method: update + "Update", want: nothing, do: servicing(up.Update, whole(empty()))},
		{method: update + "UpdateStage", want: noFile, host: updated, do: servicing(up.UpdateStage, &v1.StageUpdateRequest{Config: wanted})},
		{method: status + "GetServicingState", want: "NOT_PROVISIONED", host: "UPDATE_RUNTIME_STAGED",
			do: unary(host.GetServicingState, &preview.GetServicingStateRequest{}, stateOf)},
		{method: update + "UpdateFinalize", want: never, host: updated, do: servicing(up.UpdateFinalize, done)},
		{method: "trident.v1.CommitService/Commit", want: nothing, do: servicing(v1.NewCommitServiceClient(conn).Commit, &v1.CommitRequest{})},
		{method: rollback + "CheckRollback", want: "NO_ROLLBACK_AVAILABLE", host: "RUNTIME_ROLLBACK_EXPECTED",
			do: unary(back.CheckRollback, &preview.CheckRollbackRequest{}, kindOf)},
		{method: rollback + "GetRollbackChain", want: "0", host: "1", do: unary(back.GetRollbackChain, &preview.GetRollbackChainRequest{}, lengthOf)},
		{method: rollback + "RollbackStage", want: nothing, host: returned,
			do: servicing(back.RollbackStage, &preview.RollbackStageRequest{})},
		{method: rollback + "RollbackFinalize", want: nothing, host: returned,
			do: servicing(back.RollbackFinalize, &preview.RollbackFinalizeRequest{})},
		{method: update + "Update", want: noFile, host: updated, do: servicing(up.Update, whole(wanted))},
		{method: rollback + "Rollback", want: nothing, host: returned,
			do: servicing(back.Rollback, &preview.RollbackRequest{Finalize: &preview.RollbackFinalizeRequest{}})},
		{method: status + "GetServicingState", want: "NOT_PROVISIONED", host: "PROVISIONED",
			do: unary(host.GetServicingState, &preview.GetServicingStateRequest{}, stateOf)},
	}
}

// setUp calls what writes whole disks, in ways that cannot: it may be run on a
// machine with disks that somebody needs.
func setUp(conn grpc.ClientConnInterface) []call {
	const install = "trident.v1preview.InstallService/"
	in := preview.NewInstallServiceClient(conn)
	return []call{
		{method: "trident.v1.StreamingService/StreamDisk", want: invalid,
			do: servicing(v1.NewStreamingServiceClient(conn).StreamDisk, &v1.StreamDiskRequest{ImageUrl: "nowhere"})},
		{method: "trident.v1preview.CommitService/CheckRoot", want: "FAILURE NOT_REQUIRED INVALID_INPUT_ERROR host-not-provisioned",
			host: "FAILURE NOT_REQUIRED SERVICING_ERROR get-block-device-path", // its root was in no configuration
			do:   servicing(preview.NewCommitServiceClient(conn).CheckRoot, &preview.CheckRootRequest{})},
		{method: install + "Install", want: invalid, do: servicing(in.Install, &preview.InstallRequest{})},
		{method: install + "InstallStage", want: invalid, do: servicing(in.InstallStage, &preview.StageInstallRequest{})},
		{method: install + "InstallFinalize", want: "FAILURE NOT_REQUIRED INTERNAL_ERROR unexpected-servicing-state",
			do: servicing(in.InstallFinalize, &preview.FinalizeInstallRequest{})},
		{method: "trident.v1preview.RebuildRaidService/RebuildRaid", want: "FAILURE NOT_REQUIRED INVALID_INPUT_ERROR host-not-provisioned",
			host: "FAILURE NOT_REQUIRED SERVICING_ERROR validate-rebuild-raid", // its configuration has no arrays
			do:   servicing(preview.NewRebuildRaidServiceClient(conn).RebuildRaid, &preview.RebuildRaidRequest{})},
	}
}

func empty() *v1.HostConfiguration { return &v1.HostConfiguration{Config: "os: {}\n"} }

func rubbish() *v1.HostConfiguration { return &v1.HostConfiguration{Config: "os: [\n"} }

func volumeOf(r *preview.GetActiveVolumeResponse) string { return r.GetActiveVolume().String() }

func typeOf(r *preview.GetRequiredServicingTypeResponse) string { return r.GetServicingType().String() }

func kindOf(r *preview.CheckRollbackResponse) string { return r.GetKind().String() }

func lengthOf(r *preview.GetRollbackChainResponse) string {
	return strconv.Itoa(len(r.GetRollbackChain()))
}

func targetOf(r *preview.GetRollbackTargetResponse) string { return r.GetRollbackTarget() }

func stateOf(r *preview.GetServicingStateResponse) string { return r.GetState().String() }

func configOf(r *preview.GetConfigResponse) string { return r.GetConfig().GetConfig() }

func lastOf(r *preview.GetLastErrorResponse) string { return r.GetError().GetSubkind() }

// validOf tells whether a configuration is valid; one that is not has an error.
func validOf(r *preview.ValidateHostConfigurationResponse) string {
	return yes(r.GetOk()) + map[bool]string{true: " " + r.GetError().GetSubkind()}[r.Error != nil]
}
