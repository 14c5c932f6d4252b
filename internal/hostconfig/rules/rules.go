package rules

import (
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/gpt"
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
	id, err := gpt.ParseGUID(string(p))
	if err != nil {
		return p
	}
	if name, _ := gpt.TypeName(id); hostconfig.PartitionType(name).IsName() {
		return hostconfig.PartitionType(name)
	}
	return p
}
