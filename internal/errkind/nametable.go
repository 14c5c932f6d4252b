package errkind

// category is one of upstream's categories with all of its variants.
type category struct {
	category Category
	variants string
}

// categories returns upstream's structured errors. Servicing comes first, because a name
// that Internal also has means that of Servicing.
func categories() []category {
	return []category{
		{Servicing, servicingBoot + servicingDevices + servicingEncryption + servicingMounts + servicingOS + servicingOther},
		{InvalidInput, invalidInput},
		{InternalFault, internalFault},
		{ExecutionEnvironment, `CheckRootPrivileges MissingBinary PrismChrootEnvironment`},
		{HealthChecks, `AbUpdateHealthCheckCommitCheck HealthChecksFailed`},
		{Initialization, `CleanInstallSafetyCheck ConnectToLogstream ConnectToTracestream ContainerConfiguration LoadHostStatus
			ParseHostStatus QueryForUpdates ReadCmdline`},
		{UnsupportedConfiguration, `NoAvailableInstallIndex PartitionsRemoved NoSuitableDisk`},
	}
}

const (
	servicingBoot = `
		AbUpdateRebootCheck BootEntryCheck CleanInstallRebootCheck CreateBootEntry EnumerateUkis FindStagedFile
		GetEspDeviceInfo GetLabelAndPath ListAndParseBootEntries ManualRollbackRebootCheck ReadEfibootmgr ReadEfiVariable
		SetEfiVariable SetUpUefiFallback UpdateBootOrder UpdateGrubConfigs UpdateUki DeployESPImages`
	servicingDevices = `
		CanonicalizePath CreatePartitions CreateFilesystems CreateSwap CreateRaid CleanupRaid CreateMdadmConf RebuildRaid
		ValidateRebuildRaid GetDisksToRebuild GetResolvedDisks GetPartitionNumber GetBlockDevicePath GetDeviceInformation
		CreateVerity CleanupVerity GetRootVerityDataDevPath GetRootAbVolumePair GetRootBlockDeviceId
		RootDevicePathAbActiveVolumeMismatch ValidateAbActiveVolume DeployImages GenerateFstab`
	servicingEncryption = `
		BindEncryptionToPcrlockPolicy GetBinaryPathsForPcrlockEncryption CopyPcrlockPolicyJson CreateCrypttab RemoveCrypttab
		CreateRecoveryKeyFile GenerateRecoveryKeyFile ReadRecoveryKeyFile SetRecoveryKeyFilePermissions EncryptBlockDevice
		CleanupEncryption FindEncryptedVolumeBlockDevice GenerateTpm2AccessPolicy GeneratePcrlockFiles RemovePcrlockPolicy
		WipePasswordKeySlot`
	servicingMounts = `
		CheckIfMountPoint ChrootMountSpecialDir ChrootUnmountSpecialDir EnterChroot ExitChroot MountNewroot
		MountNewrootSpecialDir UnmountNewroot MountOverlay MountExecrootBinary`
	servicingOS = `
		CopyMachineId CreateMachineId ReadHostname RunOsModifier SetUpUsers WriteAdditionalFile RegenerateInitrd
		GetSelinuxMode GetSelinuxType DisableCloudInitNetworking CreateConfigurationFile CreateDirectory CopyTridentBinary
		CreateExtensionImageDirectories PathIsNotUnicode
		ApplyNetplanConfig BackupNetplanConfig CleanupNetplanBackup GenerateNetplanConfig RemoveNetplanConfig
		WriteNetplanConfig StartNetwork OpenFirewall
		RunPreServicingScript RunPostProvisionScript RunPostConfigureScript SystemdCheckTimeout`
	servicingOther = `
		CommandCouldNotExecute CommandFailed Datastore ManualRollback Reboot RebootTimeout`

	invalidInput = `
		AllowedOperationsInHostConfiguration ChrootSpecialDirInvalid CleanInstallOnProvisionedHost CorruptOsImage
		EspMountPointMismatch FilesystemSizeExceedsBlockDevice DuplicateFsUuid DuplicateFsUuidAbUpdate
		DuplicateFsUuidAclVerificationFailed HistoryFileNotFound HostNotProvisioned ImageBadAgentConfiguration
		InvalidBootConfiguration InvalidHostConfigurationDynamic InvalidHostConfigurationStatic InvalidInternalParameter
		InvalidLazyPartition InvalidRollbackExpectation InvalidRollbackState LoadCosi DeriveHostConfiguration
		LoadHostConfigurationFile LoadKickstart MismatchedArchitecture MismatchedFsType MismatchedOsRelease MissingOsImage
		MissingOsImageFilesystem MultibootWithoutAdoptedPartitions OldStyleConfiguration ParseHostConfiguration
		ParseHostConfigurationFile ParsePrismHistory ReadInputFile VerityMismatch SelinuxEnabledButNotFound
		TranslateKickstart UnexpectedVerityOnEsp UnsupportedBootFileSystemType UnsupportedHashKind UnusedOsImageFilesystem
		WriteOutputFile`

	internalFault = `
		GenerateDiagnosticsBundle GetEspDeviceInfo GetMountPointForFilesystemFromImage GetDeviceIdForFilesystemFromImage
		GetBlockDevicePath Internal Panic PopulateExtensionImages PopulateFilesystems RunInContainer SendHostStatus
		SerializeError SerializeHostStatus SetUpExtensionImages StartTokioRuntime UnexpectedServicingState
		UnexpectedServicingType RebuildStorageGraph WaitForSystemdNetworkd DerivedHostConfigurationInvalid
		DerivedHostConfigurationPartitionNotFound`
)

// nameOfKind returns the name of an error without WithName: only a category if upstream
// has no such error.
func nameOfKind(kind Kind) Name {
	switch kind {
	case Invalid, NotFound, Exists, Corrupt, Incompatible, Forbidden, TooOld, Blocked, TooLarge:
		return Name{Category: InvalidInput}
	case Untrusted, Unsupported:
		return Name{Category: UnsupportedConfiguration}
	case Denied:
		return Name{ExecutionEnvironment, NameCheckRootPrivileges}
	case Unhealthy:
		return Name{HealthChecks, NameHealthChecksFailed}
	case Precondition, Busy:
		return Name{Category: Initialization}
	case NoSpace, Unavailable, TLS, Cancelled, Timeout:
		return Name{Category: Servicing}
	}
	return Name{InternalFault, NameInternal}
}
