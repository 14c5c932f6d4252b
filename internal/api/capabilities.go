package api

import "slices"

// capabilities is the closed list of what a client may require, sorted. A name
// stays while what it stands for works; a test shows of each that it does.
// services: this daemon can change its host.
func capabilities(services bool) []string {
	out := []string{
		"config-handles",    // HandleService.OpenConfig, and the calls that take what it gives
		"fetch-timeout",     // Source.fetch_timeout in SelfService.Stage and Upgrade; with stream-disk, the request header trident-image-timeout
		"host-status",       // HostService.GetHost, and all of upstream's StatusService
		"host-validation",   // HostService.ValidateConfig: all findings with their places
		"image-handles",     // HandleService.OpenImage
		"message-limit",     // answers larger than the client said that it takes are errors, not broken connections
		"operations",        // OperationsService: get, list, cancel, watch from a sequence number
		"request-ids",       // the request header trident-request-id of every call that begins an operation
		"self-image-handle", // Source.image_handle in SelfService.Stage and Upgrade
		"self-upgrade",      // SelfService
		"self-upload",       // Source.upload in SelfService.Stage and Upgrade
	}
	if services {
		out = append(out,
			"ab-rollback",           // RollbackService, into the other volume
			"ab-update",             // UpdateService, into the other volume
			"check-root",            // upstream's preview CommitService
			"host-plan",             // HostService.PlanUpdate
			"install",               // InstallService
			"install-config-handle", // the request header trident-config-handle of InstallService.Install and InstallStage
			"install-plan",          // HostService.PlanInstall
			"runtime-rollback",      // RollbackService, for what was changed at run time
			"runtime-update",        // UpdateService, for what can be changed at run time
			"stream-disk",           // StreamingService
			"stream-disk-limits",    // its request headers trident-image-bytes-per-second and trident-image-data-budget
			"update-config-handle",  // the request header trident-config-handle of UpdateService.Update and UpdateStage
		)
	}
	slices.Sort(out)
	return out
}
