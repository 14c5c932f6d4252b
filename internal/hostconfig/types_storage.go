package hostconfig

// Storage is the disks of a host and what is on them, from partitions up to
// mount points. Everything that others refer to has an id; ids are unique
// over the whole section.
type Storage struct {
	// The disks that are partitioned. All others are left alone.
	Disks []Disk `key:"disks"`
	// Encrypted volumes (LUKS2), unlocked by the TPM.
	Encryption *Encryption `key:"encryption,null"`
	// Software RAID arrays.
	RAID RAID `key:"raid"`
	// What exists twice, so that one half can be updated while the host runs from the other.
	ABUpdate *ABUpdate `key:"abUpdate,null"`
	// File systems and where they are mounted.
	Filesystems []Filesystem `key:"filesystems"`
	// Devices whose content is verified by dm-verity as it is read.
	Verity []Verity `key:"verity"`
	// Devices to swap to.
	Swap []Swap `key:"swap"`
}

// Disk is a disk that is partitioned from nothing, or whose adopted
// partitions stay.
type Disk struct {
	// The name of the disk in this document.
	ID string `key:"id,required"`
	// The device file. Names under /dev/disk/by-path or by-id stay the same over reboots.
	Device string `key:"device,required"`
	// The kind of partition table.
	PartitionTableType PartitionTableType `key:"partitionTableType,required"`
	// New partitions, in their order on the disk.
	Partitions []Partition `key:"partitions,required"`
	// Partitions that are on the disk already and are kept with their content. All others are deleted.
	AdoptedPartitions []AdoptedPartition `key:"adoptedPartitions"`
}

// Partition is a new partition.
type Partition struct {
	// The name of the partition in this document.
	ID string `key:"id,required"`
	// What the partition is for: one of the names, or the UUID of another GPT partition type.
	Type PartitionType `key:"type" get:"always" default:"linux-generic"`
	// A number of bytes, a number with K, M, G or T (powers of 1024), or grow for what is left on the disk. It must be
	// a multiple of 4096 bytes.
	Size Size `key:"size,required"`
	// The UUID that the partition gets. One is made when it is left out.
	UUID UUID `key:"uuid,null" get:"always"`
	// The label of the partition. Left out, it is the id.
	Label string `key:"label,null" get:"always"`
}

// AdoptedPartition is a partition that exists and is kept. Exactly one of
// matchLabel and matchUuid says which.
type AdoptedPartition struct {
	// The name of the partition in this document.
	ID string `key:"id,required"`
	// The label of the partition.
	MatchLabel string `key:"matchLabel,null" get:"always"`
	// The UUID of the partition.
	MatchUUID UUID `key:"matchUuid,null" get:"always"`
}

// Encryption is encrypted volumes and what unlocks them.
type Encryption struct {
	// A file with a key that unlocks the volumes when the TPM does not: a file URL.
	RecoveryKeyURL URL `key:"recoveryKeyUrl,null"`
	// The volumes.
	Volumes []EncryptedVolume `key:"volumes,required"`
	// The platform configuration registers that must hold what they held before for the TPM to unlock the volumes, by number or by
	// name. Combinations of 4, 7 and 11 are possible.
	PCRs []PCR `key:"pcrs,required"`
	// A clean install clears the TPM first.
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

// RAID is software RAID arrays.
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
	// How the array spreads data.
	Level RAIDLevel `key:"level,required"`
	// The ids of the partitions that make the array: at least two.
	Devices []string `key:"devices,required"`
}

// ABUpdate is what exists twice.
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

// Filesystem is a file system, from the image or not, and where it is mounted.
type Filesystem struct {
	// The id of the device that it is on. A tmpfs has none.
	DeviceID string `key:"deviceId,null"`
	// Where its content comes from.
	Source FilesystemSource `key:"source" default:"image"`
	// The kind of file system. One from an image says so itself, so it may not be given with source image; a new
	// one is ext4 when it is left out, and may be a tmpfs; an adopted one is found out (auto) when it is left out.
	Type FilesystemType `key:"type,null" get:"always"`
	// Where it is mounted: a path, or a mapping of path and options.
	MountPoint *MountPoint `key:"mountPoint,null"`
	// Whether this is the EFI system partition to use when it is mounted elsewhere than expected.
	OverrideESPMount ESPMount `key:"overrideEspMount" default:"use-default"`
}

// MountPoint is where a file system is mounted. The path alone, as a string,
// is the short form.
type MountPoint struct {
	// The folder, absolute.
	Path string `key:"path,required"`
	// Options of mount(8), separated by commas.
	Options string `key:"options" get:"always" default:"defaults"`
}

// Verity is a device whose content is verified as it is read.
type Verity struct {
	// The name of the verity device in this document.
	ID string `key:"id,required"`
	// The name of the opened device under /dev/mapper: root or usr.
	Name string `key:"name,required"`
	// The id of the device that has the data.
	DataDeviceID string `key:"dataDeviceId,required"`
	// The id of the device that has the hashes.
	HashDeviceID string `key:"hashDeviceId,required"`
	// What the kernel does when data does not match its hash.
	CorruptionOption CorruptionOption `key:"corruptionOption" get:"always" default:"io-error"`
}

// Swap is a device to swap to. The id of the device alone, as a string, is the
// short form.
type Swap struct {
	// The id of the device.
	DeviceID string `key:"deviceId,required"`
}
