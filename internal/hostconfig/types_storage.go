package hostconfig

// Storage has the disks of a host and their content, from partitions up to mount points.
// Every item that another item refers to has an id, which is unique in the whole section.
type Storage struct {
	// The disks that Trident partitions. Trident does not change other disks.
	Disks []Disk `key:"disks"`
	// Encrypted volumes (LUKS2), unlocked by the TPM.
	Encryption *Encryption `key:"encryption,null"`
	// Software RAID arrays.
	RAID RAID `key:"raid"`
	// The volumes that exist twice, so that an update writes one while the host runs from the other.
	ABUpdate *ABUpdate `key:"abUpdate,null"`
	// File systems and where they are mounted.
	Filesystems []Filesystem `key:"filesystems"`
	// Devices whose content dm-verity verifies as it is read.
	Verity []Verity `key:"verity"`
	// Devices to swap to.
	Swap []Swap `key:"swap"`
}

// Disk is a disk that Trident partitions. Only its adopted partitions keep their content.
type Disk struct {
	// The name of the disk in this document.
	ID string `key:"id,required"`
	// The device file. Names under /dev/disk/by-path or by-id stay the same over reboots.
	Device string `key:"device,required"`
	// The kind of partition table.
	PartitionTableType PartitionTableType `key:"partitionTableType,required"`
	// New partitions, in their order on the disk.
	Partitions []Partition `key:"partitions,required"`
	// Existing partitions that Trident keeps with their content. Trident deletes all other partitions.
	AdoptedPartitions []AdoptedPartition `key:"adoptedPartitions"`
}

// Partition is a new partition.
type Partition struct {
	// The name of the partition in this document.
	ID string `key:"id,required"`
	// The purpose of the partition: one of the names, or the UUID of another GPT partition type.
	Type PartitionType `key:"type" get:"always" default:"linux-generic"`
	// A number of bytes, a number with K, M, G or T (powers of 1024), or grow for the rest of the disk. The size must be
	// a multiple of 4096 bytes.
	Size Size `key:"size,required"`
	// The UUID of the new partition. The default is a random one.
	UUID UUID `key:"uuid,null" get:"always"`
	// The label of the partition. The default is the id.
	Label string `key:"label,null" get:"always"`
}

// AdoptedPartition is an existing partition that Trident keeps. Exactly one of
// matchLabel and matchUuid identifies it.
type AdoptedPartition struct {
	// The name of the partition in this document.
	ID string `key:"id,required"`
	// The label of the partition.
	MatchLabel string `key:"matchLabel,null" get:"always"`
	// The UUID of the partition.
	MatchUUID UUID `key:"matchUuid,null" get:"always"`
}

// Encryption has the encrypted volumes and the means to unlock them.
type Encryption struct {
	// A file with a key that unlocks the volumes when the TPM does not: a file URL.
	RecoveryKeyURL URL `key:"recoveryKeyUrl,null"`
	// The volumes.
	Volumes []EncryptedVolume `key:"volumes,required"`
	// The platform configuration registers, by number or by name. The TPM unlocks the volumes only while these registers have
	// the same values as before. Combinations of 4, 7 and 11 are possible.
	PCRs []PCR `key:"pcrs,required"`
	// Whether a clean install clears the TPM first.
	ClearTPMOnInstall bool `key:"clearTpmOnInstall,null"`
}

// EncryptedVolume is one encrypted volume.
type EncryptedVolume struct {
	// The name of the volume in this document.
	ID string `key:"id,required"`
	// The name of the unlocked device under /dev/mapper.
	DeviceName string `key:"deviceName,required"`
	// The id of the partition or array that is encrypted.
	DeviceID string `key:"deviceId,required"`
}

// RAID has the software RAID arrays.
type RAID struct {
	// The arrays.
	Software []SoftwareRAID `key:"software"`
	// How long to wait for new arrays to be in sync, in seconds.
	SyncTimeout *uint64 `key:"syncTimeout,null"`
}

// SoftwareRAID is one array.
type SoftwareRAID struct {
	// The name of the array in this document.
	ID string `key:"id,required"`
	// The name of the array under /dev/md.
	Name string `key:"name,required"`
	// How the array distributes data.
	Level RAIDLevel `key:"level,required"`
	// The ids of the partitions of the array: at least two.
	Devices []string `key:"devices,required"`
}

// ABUpdate has the volumes that exist twice.
type ABUpdate struct {
	// The pairs.
	VolumePairs []VolumePair `key:"volumePairs,required"`
}

// VolumePair is two devices of the same kind, of which one is in use.
type VolumePair struct {
	// The name of the pair in this document.
	ID string `key:"id,required"`
	// The id of the device for slot A.
	VolumeAID string `key:"volumeAId,required"`
	// The id of the device for slot B.
	VolumeBID string `key:"volumeBId,required"`
}

// Filesystem is a file system and its mount point.
type Filesystem struct {
	// The id of the device of the file system. A tmpfs has none.
	DeviceID string `key:"deviceId,null"`
	// The origin of the content.
	Source FilesystemSource `key:"source" default:"image"`
	// The kind of file system. It must be left out with source image, because the image says the kind. The default is ext4
	// with source new, which also allows tmpfs, and auto (detected) with source adopted.
	Type FilesystemType `key:"type,null" get:"always"`
	// The mount point: a path, or a mapping of path and options.
	MountPoint *MountPoint `key:"mountPoint,null"`
	// Whether this file system is the EFI system partition, wherever it is mounted.
	OverrideESPMount ESPMount `key:"overrideEspMount" default:"use-default"`
}

// MountPoint is where a file system is mounted. The path alone, as a string,
// is the short form.
type MountPoint struct {
	// The folder, absolute.
	Path string `key:"path,required" is:"short"`
	// Options of mount(8), separated by commas.
	Options string `key:"options" get:"always" default:"defaults"`
}

// Verity is a device whose content is verified as it is read.
type Verity struct {
	// The name of the verity device in this document.
	ID string `key:"id,required"`
	// The name of the opened device under /dev/mapper: root or usr.
	Name string `key:"name,required"`
	// The id of the device with the data.
	DataDeviceID string `key:"dataDeviceId,required"`
	// The id of the device with the hashes.
	HashDeviceID string `key:"hashDeviceId,required"`
	// What the kernel does when data does not match its hash.
	CorruptionOption CorruptionOption `key:"corruptionOption" get:"always" default:"io-error"`
}

// Swap is a device to swap to. The id of the device alone, as a string, is the
// short form.
type Swap struct {
	// The id of the device.
	DeviceID string `key:"deviceId,required" is:"short"`
}
