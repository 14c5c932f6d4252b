package api

import (
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

// caller says who may call a method. The zero value is nobody.
type caller int

const (
	root   caller = iota + 1
	anyone        // every user who can open the socket
)

// rule is the entry of a method in the access table.
type rule struct {
	may caller
	// worksWithoutHost methods need nothing of Config that only a daemon has.
	worksWithoutHost bool
	// isQuiet methods are called by programs all the time: a success is logged only at
	// level debug.
	isQuiet bool
	// worksBeforeResume methods need nothing that only a resumed daemon has.
	worksBeforeResume bool
	// requestLimit is the size of the largest request in bytes; 0 means smallRequest.
	requestLimit int
	// isBulk methods return much of the datastore: only few of their calls run at a time.
	// None of them waits for anything else.
	isBulk bool
	// endsWithServer streams may have no end of their own: a server that stops ends them.
	endsWithServer bool
}

// smallRequest is the largest request, in bytes, without a Host Configuration or a chunk.
const smallRequest = 64 << 10

func (r rule) limit() int { return max(r.requestLimit, smallRequest) }

// access returns the table of who may call what. Every other method is refused.
func access() map[string]rule {
	return map[string]rule{
		tridentv1.VersionService_Version_FullMethodName: {may: anyone, worksWithoutHost: true, isQuiet: true, worksBeforeResume: true},

		selfv1.SelfService_GetStatus_FullMethodName:    {may: root},
		selfv1.SelfService_Stage_FullMethodName:        {may: root, requestLimit: maxMessage},
		selfv1.SelfService_Upgrade_FullMethodName:      {may: root, requestLimit: maxMessage},
		selfv1.SelfService_Activate_FullMethodName:     {may: root},
		selfv1.SelfService_Rollback_FullMethodName:     {may: root},
		selfv1.SelfService_Unblock_FullMethodName:      {may: root},
		selfv1.SelfService_Remove_FullMethodName:       {may: root},
		selfv1.SelfService_History_FullMethodName:      {may: root, isBulk: true},
		selfv1.SelfService_CheckUpdates_FullMethodName: {may: root},
		selfv1.SelfService_GetPolicy_FullMethodName:    {may: root},
		selfv1.SelfService_SetPolicy_FullMethodName:    {may: root},

		operationsv1.OperationsService_Get_FullMethodName:      {may: root},
		operationsv1.OperationsService_List_FullMethodName:     {may: root, isBulk: true},
		operationsv1.OperationsService_Watch_FullMethodName:    {may: root},
		operationsv1.OperationsService_Cancel_FullMethodName:   {may: root},
		operationsv1.OperationsService_Continue_FullMethodName: {may: root},

		setupv1.SetupService_Handshake_FullMethodName:     {may: anyone, worksWithoutHost: true, isQuiet: true, worksBeforeResume: true},
		handlesv1.HandleService_OpenImage_FullMethodName:  {may: root, worksWithoutHost: true, requestLimit: maxMessage},
		handlesv1.HandleService_OpenConfig_FullMethodName: {may: root, worksWithoutHost: true, requestLimit: maxMessage},
		handlesv1.HandleService_Close_FullMethodName:      {may: root, worksWithoutHost: true},

		hostv1.HostService_ValidateConfig_FullMethodName: {may: root, worksWithoutHost: true, requestLimit: maxMessage},
		hostv1.HostService_PlanUpdate_FullMethodName:     {may: root, requestLimit: maxMessage},
		hostv1.HostService_PlanInstall_FullMethodName:    {may: root, requestLimit: maxMessage},
		hostv1.HostService_GetHost_FullMethodName:        {may: root, isBulk: true},
		hostv1.HostService_PlanRebuild_FullMethodName:    {may: root},
		hostv1.HostService_GetRecoveryKey_FullMethodName: {may: root},

		machinev1.SystemService_GetVersion_FullMethodName:         {may: root, isQuiet: true},
		machinev1.SystemService_GetUptime_FullMethodName:          {may: root, isQuiet: true},
		machinev1.SystemService_GetLoad_FullMethodName:            {may: root, isQuiet: true},
		machinev1.SystemService_GetMemory_FullMethodName:          {may: root, isQuiet: true},
		machinev1.SystemService_GetCpus_FullMethodName:            {may: root, isQuiet: true, isBulk: true},
		machinev1.SystemService_GetStat_FullMethodName:            {may: root, isQuiet: true},
		machinev1.SystemService_ListDisks_FullMethodName:          {may: root, isQuiet: true, isBulk: true},
		machinev1.SystemService_ListNetworkDevices_FullMethodName: {may: root, isQuiet: true, isBulk: true},
		machinev1.SystemService_ListSockets_FullMethodName:        {may: root, isQuiet: true},
		machinev1.SystemService_ListMounts_FullMethodName:         {may: root, isQuiet: true, isBulk: true},
		machinev1.SystemService_ListProcesses_FullMethodName:      {may: root, isQuiet: true},
		machinev1.SystemService_GetArguments_FullMethodName:       {may: root, isBulk: true},
		machinev1.UnitService_ListUnits_FullMethodName:            {may: root},
		machinev1.UnitService_ShowUnit_FullMethodName:             {may: root},
		machinev1.UnitService_StartUnit_FullMethodName:            {may: root},
		machinev1.UnitService_StopUnit_FullMethodName:             {may: root},
		machinev1.UnitService_RestartUnit_FullMethodName:          {may: root},
		machinev1.LogService_Journal_FullMethodName:               {may: root, endsWithServer: true},
		machinev1.LogService_Dmesg_FullMethodName:                 {may: root, endsWithServer: true},
		machinev1.LogService_Events_FullMethodName:                {may: root, endsWithServer: true},
		machinev1.FileService_ListFiles_FullMethodName:            {may: root, endsWithServer: true},
		machinev1.FileService_StatFile_FullMethodName:             {may: root},
		machinev1.FileService_ReadFile_FullMethodName:             {may: root, endsWithServer: true},
		machinev1.FileService_CopyFiles_FullMethodName:            {may: root, endsWithServer: true},
		machinev1.FileService_DiskUsage_FullMethodName:            {may: root},
		machinev1.CaptureService_Capture_FullMethodName:           {may: root, endsWithServer: true},
		machinev1.MountService_Mount_FullMethodName:               {may: root},
		machinev1.MountService_Unmount_FullMethodName:             {may: root},
		machinev1.MountService_ListShares_FullMethodName:          {may: root},
		machinev1.MountService_ListHolders_FullMethodName:         {may: root},
		machinev1.PowerService_Reboot_FullMethodName:              {may: root},
		machinev1.PowerService_Shutdown_FullMethodName:            {may: root},
		machinev1.ResetService_PlanReset_FullMethodName:           {may: root},
		machinev1.ResetService_Reset_FullMethodName:               {may: root},

		healthpb.Health_Check_FullMethodName:                                   {may: anyone, worksWithoutHost: true, isQuiet: true},
		healthpb.Health_List_FullMethodName:                                    {may: anyone, worksWithoutHost: true, isQuiet: true},
		healthpb.Health_Watch_FullMethodName:                                   {may: anyone, worksWithoutHost: true, isQuiet: true, endsWithServer: true},
		reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName:      {may: anyone, worksWithoutHost: true, isQuiet: true, worksBeforeResume: true},
		reflectionalphapb.ServerReflection_ServerReflectionInfo_FullMethodName: {may: anyone, worksWithoutHost: true, isQuiet: true, worksBeforeResume: true},

		tridentv1.CommitService_Commit_FullMethodName:         {may: root},
		tridentv1.StreamingService_StreamDisk_FullMethodName:  {may: root},
		tridentv1.UpdateService_Update_FullMethodName:         {may: root, requestLimit: maxMessage},
		tridentv1.UpdateService_UpdateStage_FullMethodName:    {may: root, requestLimit: maxMessage},
		tridentv1.UpdateService_UpdateFinalize_FullMethodName: {may: root},

		tridentv1preview.CommitService_CheckRoot_FullMethodName:                     {may: root},
		tridentv1preview.InstallService_Install_FullMethodName:                      {may: root, requestLimit: maxMessage},
		tridentv1preview.InstallService_InstallStage_FullMethodName:                 {may: root, requestLimit: maxMessage},
		tridentv1preview.InstallService_InstallFinalize_FullMethodName:              {may: root},
		tridentv1preview.RebuildRaidService_RebuildRaid_FullMethodName:              {may: root},
		tridentv1preview.RollbackService_CheckRollback_FullMethodName:               {may: root},
		tridentv1preview.RollbackService_Rollback_FullMethodName:                    {may: root},
		tridentv1preview.RollbackService_RollbackStage_FullMethodName:               {may: root},
		tridentv1preview.RollbackService_RollbackFinalize_FullMethodName:            {may: root},
		tridentv1preview.RollbackService_GetRollbackChain_FullMethodName:            {may: root, isBulk: true},
		tridentv1preview.RollbackService_GetRollbackTarget_FullMethodName:           {may: root},
		tridentv1preview.StatusService_GetProvisionedConfig_FullMethodName:          {may: root, isBulk: true},
		tridentv1preview.StatusService_GetServicingConfig_FullMethodName:            {may: root, isBulk: true},
		tridentv1preview.StatusService_GetLastError_FullMethodName:                  {may: root},
		tridentv1preview.StatusService_GetServicingState_FullMethodName:             {may: root},
		tridentv1preview.StatusService_GetActiveVolume_FullMethodName:               {may: root},
		tridentv1preview.ValidationService_ValidateHostConfiguration_FullMethodName: {may: root, worksWithoutHost: true, requestLimit: maxMessage},
		tridentv1preview.ValidationService_GetRequiredServicingType_FullMethodName:  {may: root, requestLimit: maxMessage},
	}
}
