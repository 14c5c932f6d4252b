package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
)

// imageFacts has the facts about a host that no installation has made: an image of Image
// Customizer that Trident services from its first boot on.
type imageFacts struct {
	// History is Image Customizer's history.json, an array of customizations with
	// the configuration of each.
	History []byte
	// Devices is the output of lsblk --json --bytes with the columns lsblkColumns.
	Devices []byte
	// RootDevice is the device of the root file system as MAJOR:MINOR; its disk is that
	// of the image. lsblk may not list it, as with an overlay.
	RootDevice string
	// Disk is the path of the disk on the host.
	Disk string
	// Lazy has the partitions that the first boot makes: PARTUUIDs by ID.
	Lazy map[string]string
	// Version is the version of Trident that writes the record.
	Version string
}

// lsblkColumns are the columns of imageFacts.Devices.
const lsblkColumns = "TYPE,MAJ:MIN,SIZE,PTUUID,PARTUUID,PARTLABEL,PARTN"

// customization has the used fields of an entry of the history.
type customization struct {
	Config struct {
		Storage imageStorage `json:"storage"`
	} `json:"config"`
}

type imageStorage struct {
	Disks []struct {
		Partitions []imagePartition `json:"partitions"`
	} `json:"disks"`
	Filesystems []struct {
		DeviceID   string `json:"deviceId"`
		MountPoint *struct {
			Path    string `json:"path"`
			Options string `json:"options"`
		} `json:"mountPoint"`
	} `json:"filesystems"`
	Verity []struct {
		ID               string `json:"id"`
		Name             string `json:"name"`
		DataDeviceID     string `json:"dataDeviceId"`
		HashDeviceID     string `json:"hashDeviceId"`
		CorruptionOption string `json:"corruptionOption"`
	} `json:"verity"`
}

type imagePartition struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Type  string `json:"type"`
}

// blockDevice is one device of lsblk.
type blockDevice struct {
	Type      string        `json:"type"`
	Number    string        `json:"maj:min"`
	Size      uint64        `json:"size"`
	PTUUID    string        `json:"ptuuid"`
	PartUUID  string        `json:"partuuid"`
	PartLabel string        `json:"partlabel"`
	PartN     int           `json:"partn"`
	Children  []blockDevice `json:"children"`
}

// layoutStatus returns the first record of the host: provisioned, running from volume A
// if it has pairs.
func layoutStatus(in imageFacts) (hoststate.Status, error) {
	storage, err := lastStorage(in.History)
	if err != nil {
		return hoststate.Status{}, errkind.WithName(fmt.Errorf("read history of the image: %w", err), errkind.NameParsePrismHistory)
	}
	disk, err := findDisk(in, storage.Disks[0].Partitions)
	if err != nil {
		return hoststate.Status{}, errkind.WithName(fmt.Errorf("find the disk of the image: %w", err), errkind.NameParsePrismHistory)
	}
	o := layout{in: in, storage: storage, paths: map[string]string{}, owner: map[string]string{}}
	if err := o.partitions(disk); err != nil {
		return hoststate.Status{}, err
	}
	o.pair()
	if err := o.complete(); err != nil {
		return hoststate.Status{}, err
	}
	o.mount()
	status := hoststate.Status{
		Phase: hoststate.Settled{}, PartitionPaths: o.paths, TridentVersion: in.Version,
		Spec: string(hostconfig.Empty().Amend(func(s *hostconfig.Spec) {
			s.Storage = o.out
			s.InternalParams = map[string]any{"injectedHostStatus": true}
		}).YAML()),
	}
	if o.out.ABUpdate != nil {
		status.ABActiveVolume = hoststate.VolumeA
	}
	if disk.PTUUID != "" {
		status.DiskUUIDs = map[string]string{diskID: disk.PTUUID}
	}
	return status, nil
}

// lastStorage returns the layout of the last customization that has one.
func lastStorage(history []byte) (*imageStorage, error) {
	var all []customization
	if err := json.Unmarshal(history, &all); err != nil {
		return nil, errkind.With(errkind.Corrupt, err)
	}
	for _, c := range slices.Backward(all) {
		switch s := c.Config.Storage; {
		case len(s.Disks) == 0:
			continue
		case len(s.Disks) > 1:
			return nil, errkind.Errorf(errkind.Unsupported, "the image has %d disks; one can be serviced", len(s.Disks))
		default:
			return &s, checkPartitions(s.Disks[0].Partitions)
		}
	}
	return nil, errkind.Errorf(errkind.Precondition, "none of its customizations has disks")
}

func checkPartitions(list []imagePartition) error {
	seen := map[string]bool{}
	for _, p := range list {
		if p.ID == "" || seen[p.ID] {
			return errkind.Errorf(errkind.Corrupt, "partitions without an id, or with the same: %q", p.ID)
		}
		seen[p.ID] = true
	}
	return nil
}

// findDisk returns the disk with the root file system, else the only disk with as many
// partitions as the image. It fails with Precondition if there are none or several.
func findDisk(in imageFacts, want []imagePartition) (*blockDevice, error) {
	var tree struct {
		Devices []blockDevice `json:"blockdevices"`
	}
	if err := json.Unmarshal(in.Devices, &tree); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read the output of lsblk: %w", err)
	}
	var fitting []*blockDevice
	for i := range tree.Devices {
		d := &tree.Devices[i]
		if in.RootDevice != "" && slices.ContainsFunc(d.Children, func(c blockDevice) bool { return c.has(in.RootDevice) }) {
			return d, nil
		}
		if len(d.Children) == len(want) {
			fitting = append(fitting, d)
		}
	}
	if len(fitting) != 1 {
		return nil, errkind.Errorf(errkind.Precondition, "%d disks of this machine have %d partitions; exactly one has to", len(fitting), len(want))
	}
	return fitting[0], nil
}

func (d blockDevice) has(number string) bool {
	return d.Number == number || slices.ContainsFunc(d.Children, func(c blockDevice) bool { return c.has(number) })
}

// diskID names the one disk of an image.
const diskID = "disk0"

// layout builds hostconfig.Storage from the history and the disk of an image.
type layout struct {
	in      imageFacts
	storage *imageStorage
	out     hostconfig.Storage
	paths   map[string]string
	owner   map[string]string // the pair that has the partition, by its ID
}

// partitions matches the partitions of the history with those of the disk: by label, else
// by position.
func (o *layout) partitions(disk *blockDevice) error {
	found := slices.Clone(disk.Children)
	slices.SortStableFunc(found, func(a, b blockDevice) int { return cmp.Compare(a.PartN, b.PartN) })
	out := hostconfig.Disk{ID: diskID, Device: o.in.Disk, PartitionTableType: hostconfig.GPT}
	for i, p := range o.storage.Disks[0].Partitions {
		at := slices.IndexFunc(found, func(d blockDevice) bool { return d.PartLabel != "" && (d.PartLabel == p.Label || d.PartLabel == p.ID) })
		if at < 0 && i < len(found) && (p.Label == "" || found[i].PartLabel == "") {
			at = i
		}
		if at < 0 || found[at].PartUUID == "" {
			return errkind.WithName(errkind.Errorf(errkind.Precondition, "find partition %q of the image: the disk has no partition with that label or at that position", p.ID), errkind.NameParsePrismHistory)
		}
		out.Partitions = append(out.Partitions, hostconfig.Partition{ID: p.ID, Label: p.Label, Type: partitionType(p), Size: hostconfig.Size(found[at].Size)})
		o.paths[p.ID] = "/dev/disk/by-partuuid/" + found[at].PartUUID
	}
	for _, id := range slices.Sorted(maps.Keys(o.in.Lazy)) {
		stem, isB := strings.CutSuffix(id, "-b")
		i := slices.IndexFunc(out.Partitions, func(p hostconfig.Partition) bool { return p.ID == stem+"-a" })
		if !isB || i < 0 || o.paths[id] != "" {
			return errkind.WithName(errkind.Errorf(errkind.Invalid, "add partition %q: its name must end in -b, and the image must have the partition in -a and lack the one in -b", id), errkind.NameInvalidLazyPartition)
		}
		lazy := out.Partitions[i]
		lazy.ID, lazy.Label = id, ""
		out.Partitions = append(out.Partitions, lazy)
		o.paths[id] = "/dev/disk/by-partuuid/" + o.in.Lazy[id]
	}
	o.out.Disks = []hostconfig.Disk{out}
	return nil
}

// partitionType returns Image Customizer's name of the type, if Trident has it too.
func partitionType(p imagePartition) hostconfig.PartitionType {
	if t := hostconfig.PartitionType(p.Type); t.IsName() {
		return t
	}
	return hostconfig.PartitionLinuxGeneric
}

// pair makes a volume pair of each two partitions -a and -b.
func (o *layout) pair() {
	var pairs []hostconfig.VolumePair
	for _, p := range o.out.Disks[0].Partitions {
		stem, isA := strings.CutSuffix(p.ID, "-a")
		if !isA || o.paths[stem+"-b"] == "" {
			continue
		}
		id := stem
		if o.taken(id) {
			id += "-ab"
		}
		pairs = append(pairs, hostconfig.VolumePair{ID: id, VolumeAID: p.ID, VolumeBID: stem + "-b"})
		o.owner[p.ID], o.owner[stem+"-b"] = id, id
	}
	if len(pairs) > 0 {
		o.out.ABUpdate = &hostconfig.ABUpdate{VolumePairs: pairs}
	}
}

// complete fails with Invalid if a used partition -a has no -b: the host could not be
// updated, and nobody would notice before the first update.
func (o *layout) complete() error {
	var used []string
	for _, v := range o.storage.Verity {
		used = append(used, v.DataDeviceID, v.HashDeviceID)
	}
	for _, f := range o.storage.Filesystems {
		if f.MountPoint != nil {
			used = append(used, f.DeviceID)
		}
	}
	var lack []string
	for _, id := range used {
		if stem, isA := strings.CutSuffix(id, "-a"); isA && o.paths[id] != "" && o.owner[id] == "" && !slices.Contains(lack, stem+"-b") {
			lack = append(lack, stem+"-b")
		}
	}
	if len(lack) == 0 {
		return nil
	}
	err := errkind.Errorf(errkind.Invalid, "pair the partitions of the image: it has no %s, and they are not among the lazy partitions", strings.Join(lack, ", "))
	return errkind.WithName(errkind.WithHint(err, "Name all of them: --lazy-partitions %s:PARTUUID", strings.Join(lack, ":PARTUUID,")), errkind.NameInvalidLazyPartition)
}

func (o *layout) taken(id string) bool {
	for _, v := range o.storage.Verity {
		if v.ID == id {
			return true
		}
	}
	return o.paths[id] != "" || id == diskID
}

// mount copies the verity devices and the file systems into the configuration.
func (o *layout) mount() {
	device := func(id string) string { return cmp.Or(o.owner[id], id) }
	for _, v := range o.storage.Verity {
		o.out.Verity = append(o.out.Verity, hostconfig.Verity{
			ID: v.ID, Name: v.Name, DataDeviceID: device(v.DataDeviceID), HashDeviceID: device(v.HashDeviceID),
			CorruptionOption: hostconfig.CorruptionOption(cmp.Or(v.CorruptionOption, string(hostconfig.CorruptionIOError))),
		})
	}
	for _, f := range o.storage.Filesystems {
		fs := hostconfig.Filesystem{DeviceID: device(f.DeviceID), Source: hostconfig.FromImage, OverrideESPMount: hostconfig.ESPDefault}
		if f.MountPoint != nil {
			fs.MountPoint = &hostconfig.MountPoint{Path: f.MountPoint.Path, Options: cmp.Or(f.MountPoint.Options, "defaults")}
		}
		o.out.Filesystems = append(o.out.Filesystems, fs)
	}
}
