package storage

import (
	"slices"

	"github.com/trident-project/trident/internal/slot"
)

// Target is a device that content is written to.
type Target struct {
	ID     string // of a partition, an array or an encrypted volume
	Action Action
	Path   string
	// UUID and Label are those of a partition in its table; "" for a layer.
	UUID, Label string
	// Size and SectorSize are in bytes. That of a layer has at least Size bytes.
	Size       int64
	SectorSize int64
	// Partitions are those that the device rests on.
	Partitions []PartitionPlan
}

// Target returns the device to write for the device id of the configuration: the half for
// the slot that p sets up if id is an A/B volume, the data device if id is a verity device.
// The hashes of a verity device go to the Target of its hash device.
func (p *Plan) Target(id string) (Target, error) {
	id = p.resolve(id)
	if l, ok := p.layer(id); ok {
		return p.layerTarget(l)
	}
	d, q, ok := p.find(id)
	if !ok {
		return Target{}, notPlanned(id)
	}
	return Target{
		ID: id, Action: q.Action, Path: q.Path, UUID: q.UUID, Label: q.Label, Size: q.Size, SectorSize: d.SectorSize, Partitions: []PartitionPlan{q},
	}, nil
}

// resolve returns the id of the partition, array or encrypted volume that Target returns.
func (p *Plan) resolve(id string) string {
	for {
		l, ok := p.layer(id)
		switch {
		case ok && l.Kind == LayerPair:
			id = l.half(p.described.Slot)
		case ok && l.Kind == LayerVerity:
			id = l.Members[0]
		default:
			return id
		}
	}
}

// half returns the id of a half of an A/B volume.
func (l Layer) half(in slot.Slot) string {
	return slot.Pair[string]{A: l.Members[0], B: l.Members[1]}.Of(in)
}

// layerTarget returns an array or an encrypted volume.
func (p *Plan) layerTarget(l Layer) (Target, error) {
	out := Target{ID: l.ID, Action: l.Action, Path: l.Path, Size: l.Size}
	for _, m := range l.Members {
		below, err := p.Target(m)
		if err != nil {
			return Target{}, err
		}
		out.SectorSize = max(out.SectorSize, below.SectorSize)
		out.Partitions = append(out.Partitions, below.Partitions...)
	}
	return out, nil
}

// layer returns the layer with that id.
func (p *Plan) layer(id string) (Layer, bool) {
	i := slices.IndexFunc(p.described.Layers, func(l Layer) bool { return l.ID == id })
	if i < 0 {
		return Layer{}, false
	}
	return p.described.Layers[i], true
}

// isPair reports whether id is an A/B volume, or a verity device on one.
func (p *Plan) isPair(id string) bool {
	l, ok := p.layer(id)
	if ok && l.Kind == LayerVerity {
		l, ok = p.layer(l.Members[0])
	}
	return ok && l.Kind == LayerPair
}

// find returns the plans of the partition with that id and of its disk.
func (p *Plan) find(id string) (DiskPlan, PartitionPlan, bool) {
	for _, d := range p.described.Disks {
		for _, q := range d.Partitions {
			if q.ID == id {
				return d, q, true
			}
		}
	}
	return DiskPlan{}, PartitionPlan{}, false
}
