package rights

// table has the methods of each right. Names are texts and not the constants of
// the generated code, so that the gateway does not contain the messages; a test compares
// them with all services of proto/trident.
func table() map[Right][]string {
	return map[Right][]string{
		Read: {
			"/trident.v1.VersionService/Version",
			"/trident.setup.v1.SetupService/Handshake",
			"/grpc.health.v1.Health/Check",
			"/grpc.health.v1.Health/List",
			"/grpc.health.v1.Health/Watch",
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
			"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
			"/trident.self.v1.SelfService/GetStatus",
			"/trident.self.v1.SelfService/History",
			"/trident.self.v1.SelfService/CheckUpdates",
			"/trident.self.v1.SelfService/GetPolicy",
			"/trident.operations.v1.OperationsService/Get",
			"/trident.operations.v1.OperationsService/List",
			"/trident.operations.v1.OperationsService/Watch",
			"/trident.host.v1.HostService/ValidateConfig",
			"/trident.machine.v1.SystemService/GetVersion",
			"/trident.machine.v1.SystemService/GetUptime",
			"/trident.machine.v1.SystemService/GetLoad",
			"/trident.machine.v1.SystemService/GetMemory",
			"/trident.machine.v1.SystemService/GetCpus",
			"/trident.machine.v1.SystemService/GetStat",
			"/trident.machine.v1.SystemService/ListDisks",
			"/trident.machine.v1.SystemService/ListNetworkDevices",
			"/trident.machine.v1.SystemService/ListSockets",
			"/trident.machine.v1.SystemService/ListMounts",
			"/trident.machine.v1.SystemService/ListProcesses",
			"/trident.v1preview.CommitService/CheckRoot",
			"/trident.v1preview.RollbackService/CheckRollback",
			"/trident.v1preview.StatusService/GetLastError",
			"/trident.v1preview.StatusService/GetServicingState",
			"/trident.v1preview.StatusService/GetActiveVolume",
			"/trident.v1preview.ValidationService/ValidateHostConfiguration",
		},
		Operate: {
			"/trident.self.v1.SelfService/Stage",
			"/trident.self.v1.SelfService/Upgrade",
			"/trident.self.v1.SelfService/Activate",
			"/trident.self.v1.SelfService/Rollback",
			"/trident.self.v1.SelfService/Unblock",
			"/trident.operations.v1.OperationsService/Cancel",
			"/trident.operations.v1.OperationsService/Continue",
			"/trident.handles.v1.HandleService/OpenImage",
			"/trident.handles.v1.HandleService/OpenConfig",
			"/trident.handles.v1.HandleService/Close",
			"/trident.v1.CommitService/Commit",
			"/trident.v1.UpdateService/Update",
			"/trident.v1.UpdateService/UpdateStage",
			"/trident.v1.UpdateService/UpdateFinalize",
			"/trident.v1preview.RebuildRaidService/RebuildRaid",
			"/trident.v1preview.RollbackService/Rollback",
			"/trident.v1preview.RollbackService/RollbackStage",
			"/trident.v1preview.RollbackService/RollbackFinalize",
			"/trident.v1preview.ValidationService/GetRequiredServicingType",
		},
		// A Host Configuration may contain passwords, scripts and the credentials of sources.
		// A plan shows values of the installed one.
		Secret: {
			"/trident.host.v1.HostService/GetHost",
			"/trident.host.v1.HostService/PlanUpdate",
			"/trident.host.v1.HostService/PlanInstall",
			"/trident.host.v1.HostService/PlanRebuild",
			"/trident.host.v1.HostService/GetRecoveryKey",
			"/trident.v1preview.StatusService/GetProvisionedConfig",
			// The command line of a process may contain a password.
			"/trident.machine.v1.SystemService/GetArguments",
			"/trident.v1preview.StatusService/GetServicingConfig",
			"/trident.v1preview.RollbackService/GetRollbackChain",
			"/trident.v1preview.RollbackService/GetRollbackTarget",
		},
		// These erase disks, remove Trident, or change what the host takes by itself.
		Admin: {
			"/trident.self.v1.SelfService/Remove",
			"/trident.self.v1.SelfService/SetPolicy",
			"/trident.v1.StreamingService/StreamDisk",
			"/trident.v1preview.InstallService/Install",
			"/trident.v1preview.InstallService/InstallStage",
			"/trident.v1preview.InstallService/InstallFinalize",
		},
	}
}
