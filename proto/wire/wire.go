// Package wire has the names of Trident's API that no protobuf definition has a
// place for: headers of calls and capabilities of daemons.
//
// Server and clients use these constants, so that a name is spelled out once.
// docs/errors.md and docs/fleet.md describe them for clients in other languages.
package wire

import "slices"

// Request headers.
const (
	// HeaderRequest names a call that begins an operation. A call of the same
	// method with the same name does not begin a second operation but shows the
	// first one from its beginning. A client whose connection broke before it
	// learned the operation's ID can repeat the call without risk.
	HeaderRequest = "trident-request-id"
	// HeaderRepeated marks a call that the client has made before under the name
	// in HeaderRequest. Such a call never begins an operation.
	HeaderRepeated = "trident-request-again"
	// HeaderConfigHandle has the handle of a Host Configuration, in decimal
	// digits, for upstream's requests, which have no field for a handle.
	HeaderConfigHandle = "trident-config-handle"
	// HeaderMultiboot is "true" when an installation keeps the other operating
	// systems of the machine bootable.
	HeaderMultiboot = "trident-install-multiboot"
	// HeaderBytesPerSecond bounds how fast StreamDisk downloads its image.
	HeaderBytesPerSecond = "trident-image-bytes-per-second"
	// HeaderDataBudget bounds how many bytes StreamDisk downloads in all.
	HeaderDataBudget = "trident-image-data-budget"
	// HeaderFetchTimeout bounds how many seconds StreamDisk waits for its image.
	HeaderFetchTimeout = "trident-image-timeout"
	// HeaderAskedBy has the remote identity on whose behalf the gateway of the host
	// makes a call. tridentd and the gateway refuse a call with this header from
	// anybody else.
	HeaderAskedBy = "trident-asked-by"
)

// MaxRequest bounds the value of HeaderRequest, in bytes.
const MaxRequest = 128

// Response headers.
const (
	// HeaderOperation has the ID of the operation that a stream shows.
	HeaderOperation = "trident-operation-id"
	// HeaderAfter has the sequence number of the last event that a stream leaves
	// out, because that event belongs to a time before the call.
	HeaderAfter = "trident-operation-after"
)

// Capabilities that a client may require in its handshake. A name stays for as
// long as what it stands for works.
const (
	ConfigHandles       = "config-handles"        // HandleService.OpenConfig, and the calls that take its handles
	FetchTimeout        = "fetch-timeout"         // Source.fetch_timeout in SelfService.Stage and Upgrade; with StreamDisk, HeaderFetchTimeout
	HostStatus          = "host-status"           // HostService.GetHost, and all of upstream's StatusService
	HostValidation      = "host-validation"       // HostService.ValidateConfig: all findings with their places
	ImageHandles        = "image-handles"         // HandleService.OpenImage
	MessageLimit        = "message-limit"         // answers larger than the client said that it takes are errors, not broken connections
	MachineCapture      = "machine-capture"       // CaptureService
	MachineFiles        = "machine-files"         // FileService
	MachineLogs         = "machine-logs"          // LogService
	MachineMounts       = "machine-mounts"        // MountService
	MachinePower        = "machine-power"         // PowerService
	MachineReset        = "machine-reset"         // ResetService
	MachineUnits        = "machine-units"         // UnitService
	Operations          = "operations"            // OperationsService: get, list, cancel, watch from a sequence number
	Pause               = "pause"                 // Trial.pause in SelfService.Upgrade and Activate, and OperationsService.Continue
	RequestIDs          = "request-ids"           // HeaderRequest of every call that begins an operation
	SelfImageHandle     = "self-image-handle"     // Source.image_handle in SelfService.Stage and Upgrade
	SelfUpgrade         = "self-upgrade"          // SelfService
	SelfUpload          = "self-upload"           // Source.upload in SelfService.Stage and Upgrade
	ABRollback          = "ab-rollback"           // RollbackService, into the other volume
	ABUpdate            = "ab-update"             // UpdateService, into the other volume
	CheckRoot           = "check-root"            // upstream's preview CommitService
	HostPlan            = "host-plan"             // HostService.PlanUpdate
	Install             = "install"               // InstallService
	InstallConfigHandle = "install-config-handle" // HeaderConfigHandle of InstallService.Install and InstallStage
	InstallMultiboot    = "install-multiboot"     // HeaderMultiboot
	InstallPlan         = "install-plan"          // HostService.PlanInstall
	MachineSystem       = "machine-system"        // SystemService of trident.machine.v1
	RebuildPlan         = "rebuild-plan"          // HostService.PlanRebuild
	RecoveryKey         = "recovery-key"          // HostService.GetRecoveryKey
	RuntimeRollback     = "runtime-rollback"      // RollbackService, for changes made at run time
	RuntimeUpdate       = "runtime-update"        // UpdateService, for changes that can be made at run time
	StreamDisk          = "stream-disk"           // StreamingService
	StreamDiskLimits    = "stream-disk-limits"    // HeaderBytesPerSecond and HeaderDataBudget of StreamDisk
	UpdateFeed          = "update-feed"           // SelfService.CheckUpdates, GetPolicy and SetPolicy; Source.feed, .incoming and .max_bytes of SelfService.Stage and Upgrade
	UpdateConfigHandle  = "update-config-handle"  // HeaderConfigHandle of UpdateService.Update and UpdateStage
)

// SelfServicing returns the capabilities of a daemon that another version of Trident can
// replace. A daemon in a container does not have them.
func SelfServicing() []string {
	return []string{Pause, SelfImageHandle, SelfUpgrade, SelfUpload, UpdateFeed}
}

// Capabilities returns the capabilities of a daemon of this version, sorted: those
// of every daemon, or also those of one that changes its host.
func Capabilities(changesHost bool) []string {
	all := []string{
		ConfigHandles, FetchTimeout, HostStatus, HostValidation, ImageHandles, MessageLimit, Operations, Pause, RequestIDs, SelfImageHandle,
		SelfUpgrade, SelfUpload,
	}
	if changesHost {
		all = append(all,
			ABRollback, ABUpdate, CheckRoot, HostPlan, Install, InstallConfigHandle, InstallMultiboot, InstallPlan,
			MachineCapture, MachineFiles, MachineLogs, MachineMounts, MachinePower, MachineReset, MachineSystem, MachineUnits, RebuildPlan, RecoveryKey,
			RuntimeRollback, RuntimeUpdate, StreamDisk, StreamDiskLimits, UpdateConfigHandle, UpdateFeed)
	}
	slices.Sort(all)
	return all
}
