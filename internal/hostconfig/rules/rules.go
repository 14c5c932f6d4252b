package rules

import (
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
)

// deviceKind is a kind of block device that a document can define.
type deviceKind string

const (
	aDisk      deviceKind = "disk"
	aPartition deviceKind = "partition"
	anAdopted  deviceKind = "adopted partition"
	aRAID      deviceKind = "RAID array"
	aPair      deviceKind = "A/B volume"
	anEncrypt  deviceKind = "encrypted volume"
	aVerity    deviceKind = "verity device"
)

// referrer is a kind of thing that refers to block devices.
type referrer string

const (
	byNobody  referrer = ""
	byRAID    referrer = "RAID array"
	byPair    referrer = "A/B volume"
	byEncrypt referrer = "encrypted volume"
	byVerity  referrer = "verity device"
	bySwap    referrer = "swap device"
	byNew     referrer = "new file system"
	byImage   referrer = "file system of the image"
	byESP     referrer = "EFI system partition"
	byAdopted referrer = "adopted file system"
)

// rule says which devices a referrer may refer to. Two referrers must not share a device.
type rule struct {
	devices  []deviceKind // kinds that it may refer to
	min, max int          // how many; max 0 means any number
	// All partitions below must have the same type or size; for sameKind, all devices
	// that it refers to directly must be of one kind.
	sameKind, sameType, sameSize bool
	types                        types                  // partition types that may be below it
	levels                       []hostconfig.RAIDLevel // levels of an array that it refers to; nil means any
}

// types is a set of partition types: those listed, or all but those listed.
type types struct {
	list []hostconfig.PartitionType
	not  bool
}

func (t types) has(p hostconfig.PartitionType) bool { return slices.Contains(t.list, p) != t.not }

func only(list ...hostconfig.PartitionType) types   { return types{list, false} }
func except(list ...hostconfig.PartitionType) types { return types{list, true} }

// rule returns the storage rule of r.
func (r referrer) rule() rule {
	switch r {
	case byRAID:
		return rule{devices: []deviceKind{aPartition}, min: 2, sameKind: true, sameType: true, sameSize: true, types: except()}
	case byPair:
		return rule{devices: []deviceKind{aPartition, aRAID, anEncrypt}, min: 2, max: 2,
			sameKind: true, sameType: true, sameSize: true, types: except()}
	case byEncrypt:
		// systemd's generators would set up a home partition that is encrypted a second time.
		return rule{devices: []deviceKind{aPartition, aRAID}, min: 1, max: 1, sameKind: true, sameType: true,
			types: except(hostconfig.PartitionESP, hostconfig.PartitionRoot, hostconfig.PartitionRootVerity, hostconfig.PartitionUsrVerity, hostconfig.PartitionHome)}
	case byVerity:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair}, min: 2, max: 2, sameKind: true,
			types: only(hostconfig.PartitionRoot, hostconfig.PartitionRootVerity, hostconfig.PartitionUsr, hostconfig.PartitionUsrVerity, hostconfig.PartitionLinuxGeneric, usrOfACL)}
	case bySwap:
		return rule{devices: []deviceKind{aPartition, anEncrypt}, min: 1, max: 1, sameKind: true, sameType: true, types: only(hostconfig.PartitionSwap)}
	case byNew:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair, anEncrypt}, max: 1, sameType: true, types: except(hostconfig.PartitionESP)}
	case byImage:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair, anEncrypt, aVerity}, min: 1, max: 1, sameType: true, types: except()}
	case byESP:
		return rule{devices: []deviceKind{aPartition, anAdopted, aRAID}, min: 1, max: 1, sameType: true,
			types: only(hostconfig.PartitionESP), levels: []hostconfig.RAIDLevel{hostconfig.RAID1}}
	case byAdopted:
		return rule{devices: []deviceKind{anAdopted}, min: 1, max: 1, sameType: true, types: except(hostconfig.PartitionESP)}
	}
	return rule{types: except()}
}

// role is the use of a device by a referrer that uses its devices for different things.
type role string

const (
	anyRole  role = ""
	dataRole role = "data"
	hashRole role = "hashes"
)

// rule returns which devices and partition types may have the role r.
func (r role) rule() (devices []deviceKind, allowed types) {
	devices = byVerity.rule().devices
	if r == dataRole {
		return devices, only(hostconfig.PartitionRoot, hostconfig.PartitionUsr, hostconfig.PartitionLinuxGeneric, usrOfACL)
	}
	return devices, only(hostconfig.PartitionRootVerity, hostconfig.PartitionUsrVerity, hostconfig.PartitionLinuxGeneric)
}

// hashType returns the type of the hash partition for a data partition of type p.
func hashType(p hostconfig.PartitionType) hostconfig.PartitionType {
	switch p {
	case hostconfig.PartitionRoot:
		return hostconfig.PartitionRootVerity
	case hostconfig.PartitionUsr, usrOfACL:
		return hostconfig.PartitionUsrVerity
	}
	return hostconfig.PartitionLinuxGeneric
}

// usualMounts returns where the Discoverable Partitions Specification mounts a partition
// of type p: nil means anywhere, an empty list nowhere.
func usualMounts(p hostconfig.PartitionType) []string {
	switch p {
	case hostconfig.PartitionESP:
		return []string{"/boot", "/efi", "/boot/efi"}
	case hostconfig.PartitionRoot:
		return []string{"/"}
	case hostconfig.PartitionSwap, hostconfig.PartitionRootVerity, hostconfig.PartitionUsrVerity:
		return []string{}
	case hostconfig.PartitionHome:
		return []string{"/home"}
	case hostconfig.PartitionVar:
		return []string{"/var"}
	case hostconfig.PartitionUsr:
		return []string{"/usr"}
	case hostconfig.PartitionTmp:
		return []string{"/var/tmp"}
	case hostconfig.PartitionSrv:
		return []string{"/srv"}
	case hostconfig.PartitionXbootldr:
		return []string{"/boot"}
	}
	return nil
}

// fewestMembers returns the least number of devices of an array of level l.
func fewestMembers(l hostconfig.RAIDLevel) int {
	if l == hostconfig.RAID6 {
		return 4
	}
	return 2
}

// usrOfACL is the type that Azure Container Linux gives its /usr partitions.
const usrOfACL hostconfig.PartitionType = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"

// nameOf returns the name of the partition type whose UUID is p, for the architectures of
// Trident (Discoverable Partitions Specification), or p. Use it for messages only: as for
// upstream, the rules do not treat a UUID as the name.
func nameOf(p hostconfig.PartitionType) hostconfig.PartitionType {
	switch p {
	case "c12a7328-f81f-11d2-ba4b-00a0c93ec93b":
		return hostconfig.PartitionESP
	case "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae":
		return hostconfig.PartitionRoot
	case "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "df3300ce-d69f-4c92-978c-9bfb0f38d820":
		return hostconfig.PartitionRootVerity
	case "8484680c-9521-48c6-9c11-b0720656f69e", "b0e01050-ee5f-4390-949a-9101b17104e9":
		return hostconfig.PartitionUsr
	case "77ff5f63-e7b6-4633-acf4-1565b864c0e6", "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e":
		return hostconfig.PartitionUsrVerity
	case "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f":
		return hostconfig.PartitionSwap
	case "933ac7e1-2eb4-4f13-b844-0e14e2aef915":
		return hostconfig.PartitionHome
	case "4d21b016-b534-45c2-a9fb-5c16e091fd2d":
		return hostconfig.PartitionVar
	case "7ec6f557-3bc5-4aca-b293-16ef5df639d1":
		return hostconfig.PartitionTmp
	case "3b8f8425-20e0-4f3b-907f-1a25a76f98e8":
		return hostconfig.PartitionSrv
	case "bc13c2ff-59e6-4262-a352-b275fd6f7172":
		return hostconfig.PartitionXbootldr
	case "0fc63daf-8483-4772-8e79-3d69d8477de4":
		return hostconfig.PartitionLinuxGeneric
	}
	return p
}
