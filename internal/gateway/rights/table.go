package rights

// table has the right of each method, by service. Names are texts and not the constants of
// the generated code, so that the gateway does not contain the messages; a test compares
// them with all services of proto/trident.
func table() map[Right]map[string][]string {
	return map[Right]map[string][]string{
		Read: {
			"trident.v1.VersionService":                {"Version"},
			"trident.setup.v1.SetupService":            {"Handshake"},
			"grpc.health.v1.Health":                    {"Check", "List", "Watch"},
			"grpc.reflection.v1.ServerReflection":      {"ServerReflectionInfo"},
			"grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo"},
			"trident.self.v1.SelfService":              {"GetStatus", "History", "CheckUpdates", "GetPolicy"},
			"trident.operations.v1.OperationsService":  {"Get", "List", "Watch"},
			"trident.host.v1.HostService":              {"ValidateConfig"},
			"trident.v1preview.CommitService":          {"CheckRoot"},
			"trident.v1preview.RollbackService":        {"CheckRollback"},
			"trident.v1preview.StatusService":          {"GetLastError", "GetServicingState", "GetActiveVolume"},
			"trident.v1preview.ValidationService":      {"ValidateHostConfiguration"},
		},
		Operate: {
			"trident.self.v1.SelfService":             {"Stage", "Upgrade", "Activate", "Rollback", "Unblock"},
			"trident.operations.v1.OperationsService": {"Cancel", "Continue"},
			"trident.handles.v1.HandleService":        {"OpenImage", "OpenConfig", "Close"},
			"trident.v1.CommitService":                {"Commit"},
			"trident.v1.UpdateService":                {"Update", "UpdateStage", "UpdateFinalize"},
			"trident.v1preview.RebuildRaidService":    {"RebuildRaid"},
			"trident.v1preview.RollbackService":       {"Rollback", "RollbackStage", "RollbackFinalize"},
			"trident.v1preview.ValidationService":     {"GetRequiredServicingType"},
		},
		// A Host Configuration may contain passwords, scripts and the credentials of sources.
		// A plan shows values of the installed one.
		Secret: {
			"trident.host.v1.HostService":       {"GetHost", "PlanUpdate", "PlanInstall"},
			"trident.v1preview.StatusService":   {"GetProvisionedConfig", "GetServicingConfig"},
			"trident.v1preview.RollbackService": {"GetRollbackChain", "GetRollbackTarget"},
		},
		// These erase disks, remove Trident, or change what the host takes by itself.
		Admin: {
			"trident.self.v1.SelfService":      {"Remove", "SetPolicy"},
			"trident.v1.StreamingService":      {"StreamDisk"},
			"trident.v1preview.InstallService": {"Install", "InstallStage", "InstallFinalize"},
		},
	}
}
