// Package storage sets up the disks of a host as a Host Configuration says. NewPlan
// compares a configuration with an inventory of the disks and returns a Plan; Plan.Apply
// changes the disks.
//
// NewPlan is a function of values and touches no disk, so that a person can see, and a
// test can check, what an installation would destroy. Only NewPlan makes a Plan, and Apply
// first checks that the disks are still as they were for NewPlan. Package gpt writes the
// partition tables, not systemd-repart: a power cut leaves the old table or the new one,
// and every write has a name (docs/decisions/0013).
package storage

import (
	"maps"

	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/slot"
)

// Purpose says which servicing a plan is for.
type Purpose string

const (
	// Install replaces all partitions of the disks except for adopted ones.
	Install Purpose = "install"
	// Update writes one half of each A/B volume and changes nothing else.
	Update Purpose = "update"
	// Stream writes a whole disk from an image. NewPlan does not plan it: see WholeDisk.
	Stream Purpose = "stream"
)

// Request has the inputs of NewPlan besides the configuration and the inventory.
type Request struct {
	For Purpose
	// Slot is the slot to write: for an Update, the slot that the host does not run from.
	Slot slot.Slot
	// Seed determines the UUIDs that the configuration does not give, so that NewPlan
	// returns the same plan again after a power cut. It has at least 16 random bytes, and
	// every installation has a seed of its own.
	Seed []byte
	// Paths has the device of each partition by its id, from the host status. Only an
	// Update needs it.
	Paths map[string]string
	// Arrays are the arrays that run on the host. Without them NewPlan does not see which
	// arrays of an Update are degraded, or cannot be written.
	Arrays []md.State
	// Arch is the architecture of the OS image, as GOARCH; "" is that of this program.
	Arch string
}

// Plan says how the disks of a host will be changed. Apply carries it out; Describe, String
// and MarshalJSON show it.
type Plan struct {
	described Description
	releases  []release // what holds the disks now, from the top down
	disks     []diskWork
	paths     map[string]string // of partitions, durable, by id
	sync      syncWait
	warnings  []string
}

// diskWork is the part of a plan for one disk whose partition table Apply replaces.
type diskWork struct {
	id, path string
	shared   bool      // an adopted partition is in use
	seen     *gpt.Disk // as NewPlan found it; nil if the disk had no readable table
	table    *gpt.Disk
	created  []PartitionPlan
}

// Description is the content of a plan, for people and programs. Sizes and offsets are in bytes.
type Description struct {
	For   Purpose    `json:"for"`
	Slot  slot.Slot  `json:"slot"`
	Disks []DiskPlan `json:"disks"`
	// Layers are the devices made of partitions, or of layers earlier in the list.
	Layers []Layer `json:"layers,omitempty"`
	// Formats are the file systems and swap that Apply makes; they are empty afterwards.
	Formats []Format `json:"formats,omitempty"`
	// Mounts are the file systems of the configuration, whatever their content comes from.
	Mounts []Mount `json:"mounts,omitempty"`
}

// DiskPlan says how one disk will be changed.
type DiskPlan struct {
	ID         string `json:"id"`
	Device     string `json:"device"` // as the configuration has it
	Path       string `json:"path"`   // of the kernel; "" for a disk that is missing
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Size       int64  `json:"size"`
	SectorSize int64  `json:"sectorSize"`
	Removable  bool   `json:"removable,omitempty"`
	UUID       string `json:"uuid"`
	// Partitions are all partitions that the disk will have, in the order of their
	// numbers. Destroys is what will be lost, in its present order on the disk.
	Partitions []PartitionPlan `json:"partitions"`
	Destroys   []Loss          `json:"destroys,omitempty"`
}

// Action says what happens to a partition.
type Action string

const (
	Create Action = "create"
	Adopt  Action = "adopt" // exists, and keeps its content
	Keep   Action = "keep"  // the same, for an Update
	Write  Action = "write" // exists, and gets new content
	// Missing is the action of an Update for a partition that the host does not have, and can
	// be updated without: arrays go on with their other members.
	Missing Action = "missing"
)

// PartitionPlan says how one partition will be changed.
type PartitionPlan struct {
	ID     string `json:"id"`
	Action Action `json:"action"`
	Number int    `json:"number"`
	Path   string `json:"path"` // of the kernel; "" for a partition that is missing
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Grown  bool   `json:"grown,omitempty"` // takes the rest of the disk
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
	Label  string `json:"label,omitempty"`
	typeID gpt.GUID
	id     gpt.GUID
}

// Loss is something on a disk that Apply destroys.
type Loss struct {
	What    string `json:"what"` // partition, content, array, volume, table, damaged table, signature or disk
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Label   string `json:"label,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	Content string `json:"content,omitempty"` // the type of the file system
}

// LayerKind is a kind of device that consists of other devices.
type LayerKind string

const (
	LayerPair      LayerKind = "ab-volume" // Members are its halves, that of slot A first
	LayerArray     LayerKind = "array"     // of software RAID
	LayerEncrypted LayerKind = "encrypted" // LUKS2
	LayerVerity    LayerKind = "verity"    // Members are the data and the hashes
)

// Layer is one device that consists of other devices. Members are the ids of partitions or
// layers, in order.
type Layer struct {
	ID      string    `json:"id"`
	Kind    LayerKind `json:"kind"`
	Members []string  `json:"members"`

	// Of an array or an encrypted volume: Create, or Keep or Write for an Update. Path stays
	// the same over reboots; a verity device has one, too. UUID is that of the array or of
	// the header. Size is what the layer has at least: its tool decides about the last bytes.
	Action Action `json:"action,omitempty"`
	Path   string `json:"path,omitempty"`
	Name   string `json:"name,omitempty"`  // below /dev/md or /dev/mapper
	Level  string `json:"level,omitempty"` // of an array
	UUID   string `json:"uuid,omitempty"`
	Size   int64  `json:"size,omitempty"`
}

// Format is a file system or swap that Apply makes.
type Format struct {
	ID    string `json:"id"`   // of the device, as the configuration has it
	Path  string `json:"path"` // of the kernel
	Type  string `json:"type"`
	UUID  string `json:"uuid,omitempty"` // as blkid(8) writes it
	Mount string `json:"mount,omitempty"`
}

// Mount is a file system on a device of the configuration.
type Mount struct {
	ID     string `json:"id"` // of the device
	Source string `json:"source"`
	Type   string `json:"type,omitempty"` // "" if the image or the device says it
	At     string `json:"at,omitempty"`   // the mount point
}

// Describe returns the content of the plan. All callers share it: do not change it.
func (p *Plan) Describe() Description { return p.described }

// Warnings returns what a person should know before the plan is applied: the arrays that are
// degraded, and the partitions that are missing.
func (p *Plan) Warnings() []string { return p.warnings }

// Paths returns a device path for every partition of the configuration, by its id, for the
// host status. The paths stay the same over reboots.
func (p *Plan) Paths() map[string]string {
	return maps.Clone(p.paths)
}

// DiskUUIDs returns the UUID of every disk that is not missing, by its id, for the host status.
func (p *Plan) DiskUUIDs() map[string]string {
	out := map[string]string{}
	for _, d := range p.described.Disks {
		if d.UUID != "" {
			out[d.ID] = d.UUID
		}
	}
	return out
}
