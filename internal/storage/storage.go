// Package storage brings disks from what they are to what a Host Configuration
// wants: configuration and inventory make a Plan, and a Plan is applied.
//
// Deciding and doing are apart, so that what an installation would destroy can
// be shown, and tested, without a disk. NewPlan is a function of values. Only it
// makes a Plan, and Apply looks again whether the disks are still those that the
// plan was made for. The tables are written by package gpt rather than by
// systemd-repart, so that a power cut leaves the old table or the new one and
// every write has its name (docs/decisions/0013).
package storage

import (
	"slices"

	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// Purpose is what a plan is for.
type Purpose string

const (
	// Install partitions the disks anew, but for adopted partitions.
	Install Purpose = "install"
	// Update writes to one half of the A/B volumes, and leaves all else.
	Update Purpose = "update"
)

// Request is what a plan is made for, beside configuration and host.
type Request struct {
	For Purpose
	// Slot is the one that is written: with Update, the one that does not run.
	Slot slot.Slot
	// Seed is what the UUIDs come from that the configuration leaves open. With
	// the same seed a plan that was made again, after a power cut, is the same.
	// It has at least 16 bytes, which nobody else uses.
	Seed []byte
	// Paths has, with Update, the device of each partition by its id, as the
	// host status has them.
	Paths map[string]string
	// Arch is the architecture of the OS image, as GOARCH; "" is ours.
	Arch string
}

// Plan is what shall become of the disks. It is printed by String and as JSON,
// and told by Describe.
type Plan struct {
	described Description
	disks     []diskWork
	paths     map[string]string // of partitions, durable, by id
	resolve   func(id string) (string, error)
}

// diskWork is what Apply needs of a disk whose table is replaced.
type diskWork struct {
	id, path string
	shared   bool      // an adopted partition is in use
	seen     *gpt.Disk // nil: there was no table that could be read
	table    *gpt.Disk
	created  []PartitionPlan
}

// Description is a plan in words. Sizes and offsets are in bytes.
type Description struct {
	For   Purpose    `json:"for"`
	Slot  slot.Slot  `json:"slot"`
	Disks []DiskPlan `json:"disks"`
	// Layers rest on partitions or on layers before them.
	Layers []Layer `json:"layers,omitempty"`
	// Formats are made anew, and empty.
	Formats []Format `json:"formats,omitempty"`
}

// DiskPlan is what becomes of one disk.
type DiskPlan struct {
	ID         string `json:"id"`
	Device     string `json:"device"` // as the configuration has it
	Path       string `json:"path"`   // of the kernel
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Size       int64  `json:"size"`
	SectorSize int64  `json:"sectorSize"`
	Removable  bool   `json:"removable,omitempty"`
	UUID       string `json:"uuid"`
	// Partitions is in the order of their numbers, Destroys in that of what is
	// there today.
	Partitions []PartitionPlan `json:"partitions"`
	Destroys   []Loss          `json:"destroys,omitempty"`
}

// Action is what becomes of a partition.
type Action string

const (
	Create Action = "create"
	Adopt  Action = "adopt" // is there, and stays with its content
	Keep   Action = "keep"  // as Adopt, by an Update
	Write  Action = "write" // is there, and gets new content
)

// PartitionPlan is what becomes of one partition.
type PartitionPlan struct {
	ID     string `json:"id"`
	Action Action `json:"action"`
	Number int    `json:"number"`
	Path   string `json:"path"` // of the kernel
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Grown  bool   `json:"grown,omitempty"` // has what is left of the disk
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
	Label  string `json:"label,omitempty"`
	typeID gpt.GUID
	id     gpt.GUID
}

// Loss is something that is there and will not be any more.
type Loss struct {
	What    string `json:"what"` // partition, content, table, damaged table, signature or disk
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Label   string `json:"label,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	Content string `json:"content,omitempty"` // the type of the file system
}

// LayerKind is a kind of device that rests on others.
type LayerKind string

// The layers. Of these only pairs are made by this version: see unsupported.
const (
	LayerRAID   LayerKind = "raid"
	LayerLUKS   LayerKind = "luks"
	LayerPair   LayerKind = "ab-volume"
	LayerVerity LayerKind = "verity"
)

// Layer is one device that rests on others. Members are ids of partitions or
// of layers, in their order: those of a pair are A and B, those of a verity
// device data and hashes.
type Layer struct {
	ID      string    `json:"id"`
	Kind    LayerKind `json:"kind"`
	Members []string  `json:"members"`
}

// Format is a file system or swap that is made.
type Format struct {
	ID    string `json:"id"`   // of the device, as the configuration has it
	Path  string `json:"path"` // of the kernel
	Type  string `json:"type"`
	UUID  string `json:"uuid,omitempty"` // as blkid(8) writes it
	Mount string `json:"mount,omitempty"`
}

// Tools are the programs that Apply runs.
func (p *Plan) Tools() []string {
	var out []string
	for _, f := range p.described.Formats {
		if args, err := mkfs(f); err == nil && !slices.Contains(out, args[0]) {
			out = append(out, args[0])
		}
	}
	return out
}

// Describe is the plan in words. It is shared: nobody changes it.
func (p *Plan) Describe() Description { return p.described }

// Paths is a device path for every partition of the configuration, by its id,
// that stays the same over reboots: what the host status keeps.
func (p *Plan) Paths() map[string]string {
	out := make(map[string]string, len(p.paths))
	for id, path := range p.paths {
		out[id] = path
	}
	return out
}

// DiskUUIDs is the UUID of every disk, by its id, for the host status.
func (p *Plan) DiskUUIDs() map[string]string {
	out := map[string]string{}
	for _, d := range p.described.Disks {
		out[d.ID] = d.UUID
	}
	return out
}

// Target is the partition that has the device id: itself, or the half of a pair
// that the plan is for.
func (p *Plan) Target(id string) (PartitionPlan, error) {
	partition, err := p.resolve(id)
	if err != nil {
		return PartitionPlan{}, err
	}
	for _, d := range p.described.Disks {
		for _, q := range d.Partitions {
			if q.ID == partition {
				return q, nil
			}
		}
	}
	return PartitionPlan{}, notPlanned(id)
}
