package storage

import (
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

// WholeDisk describes the writing of a disk from an image that has its partition table:
// everything on the disk is lost. An image numbers its partitions and has no ids, so the
// labels stand for them.
func WholeDisk(have *blockdev.Disk, table *gpt.Disk) *Description {
	out := DiskPlan{
		ID: have.Name, Device: have.Path, Path: have.Path, Model: have.Model, Serial: have.Serial, Size: have.Size, SectorSize: have.SectorSize,
		Removable: have.Removable, UUID: table.ID.String(), Destroys: losses(have, nil),
	}
	for _, e := range table.Entries {
		out.Partitions = append(out.Partitions, PartitionPlan{
			ID: e.Name, Action: Create, Number: e.Number, Path: "/dev/" + blockdev.PartitionName(have.Name, e.Number), Offset: e.Offset, Size: e.Size,
			Type: typeName(e.Type.String()), UUID: e.ID.String(), Label: e.Name, typeID: e.Type, id: e.ID,
		})
	}
	return &Description{For: Stream, Slot: slot.A, Disks: []DiskPlan{out}}
}
