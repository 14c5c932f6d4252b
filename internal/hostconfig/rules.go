package hostconfig

import "slices"

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

// referrer is a kind of thing that rests on block devices.
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

// rule is what a referrer may rest on. Two referrers never share a device.
type rule struct {
	devices  []deviceKind // kinds that it may refer to
	min, max int          // how many; max 0 is any number
	// What all partitions below it must have in common. sameKind is about the
	// devices that it refers to themselves.
	sameKind, sameType, sameSize bool
	types                        types       // partition types that may be below it
	levels                       []RAIDLevel // levels of an array that it refers to; nil is any
}

// types is a set of partition types: those listed, or all but those listed.
type types struct {
	list []PartitionType
	not  bool
}

func (t types) has(p PartitionType) bool { return slices.Contains(t.list, p) != t.not }

func only(list ...PartitionType) types   { return types{list, false} }
func except(list ...PartitionType) types { return types{list, true} }

// rule is the table of storage rules.
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
			types: except(PartitionESP, PartitionRoot, PartitionRootVerity, PartitionUsrVerity, PartitionHome)}
	case byVerity:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair}, min: 2, max: 2, sameKind: true,
			types: only(PartitionRoot, PartitionRootVerity, PartitionUsr, PartitionUsrVerity, PartitionLinuxGeneric)}
	case bySwap:
		return rule{devices: []deviceKind{aPartition, anEncrypt}, min: 1, max: 1, sameKind: true, sameType: true, types: only(PartitionSwap)}
	case byNew:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair, anEncrypt}, max: 1, sameType: true, types: except(PartitionESP)}
	case byImage:
		return rule{devices: []deviceKind{aPartition, aRAID, aPair, anEncrypt, aVerity}, min: 1, max: 1, sameType: true, types: except()}
	case byESP:
		return rule{devices: []deviceKind{aPartition, anAdopted, aRAID}, min: 1, max: 1, sameType: true,
			types: only(PartitionESP), levels: []RAIDLevel{RAID1}}
	case byAdopted:
		return rule{devices: []deviceKind{anAdopted}, min: 1, max: 1, sameType: true, types: except(PartitionESP)}
	}
	return rule{types: except()}
}

// role is what a referrer uses a device for, when it uses each for another thing.
type role string

const (
	anyRole  role = ""
	dataRole role = "data"
	hashRole role = "hashes"
)

// rule narrows the rule of the referrer for devices in this role.
func (r role) rule() (devices []deviceKind, allowed types) {
	devices = byVerity.rule().devices
	if r == dataRole {
		return devices, only(PartitionRoot, PartitionUsr, PartitionLinuxGeneric)
	}
	return devices, only(PartitionRootVerity, PartitionUsrVerity, PartitionLinuxGeneric)
}

// hashType is the type of the partition with the hashes of one with data of type p.
func hashType(p PartitionType) PartitionType {
	switch p {
	case PartitionRoot:
		return PartitionRootVerity
	case PartitionUsr:
		return PartitionUsrVerity
	}
	return PartitionLinuxGeneric
}

// usualMounts is where a partition of type p is mounted by the Discoverable
// Partitions Specification: nil is anywhere, an empty list nowhere.
func usualMounts(p PartitionType) []string {
	switch p {
	case PartitionESP:
		return []string{"/boot", "/efi", "/boot/efi"}
	case PartitionRoot:
		return []string{"/"}
	case PartitionSwap, PartitionRootVerity, PartitionUsrVerity:
		return []string{}
	case PartitionHome:
		return []string{"/home"}
	case PartitionVar:
		return []string{"/var"}
	case PartitionUsr:
		return []string{"/usr"}
	case PartitionTmp:
		return []string{"/var/tmp"}
	case PartitionSrv:
		return []string{"/srv"}
	case PartitionXbootldr:
		return []string{"/boot"}
	}
	return nil
}

// fewestMembers is how many devices an array of level l is made of at least.
func fewestMembers(l RAIDLevel) int {
	if l == RAID6 {
		return 4
	}
	return 2
}
