package api

import (
	"github.com/trident-project/trident/internal/storage"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

// storageToWire converts a plan of the disks, which may be nil. Labels and models of
// disks may be any text.
func storageToWire(d *storage.Description) *hostv1.StoragePlan {
	if d == nil {
		return nil
	}
	out := &hostv1.StoragePlan{
		Purpose: string(d.For), Disks: mapSlice(d.Disks, diskToWire), Layers: mapSlice(d.Layers, layerToWire), Formats: mapSlice(d.Formats, formatToWire),
		Mounts: mapSlice(d.Mounts, mountToWire),
	}
	if d.Slot.Valid() {
		out.Slot = d.Slot.String()
	}
	return out
}

func diskToWire(d storage.DiskPlan) *hostv1.DiskPlan {
	return &hostv1.DiskPlan{
		Id: textToWire(d.ID), Device: textToWire(d.Device), Path: textToWire(d.Path), Model: textToWire(d.Model), Serial: textToWire(d.Serial),
		Size: d.Size, SectorSize: d.SectorSize, Removable: d.Removable, Uuid: d.UUID,
		Partitions: mapSlice(d.Partitions, partitionToWire), Destroys: mapSlice(d.Destroys, lossToWire),
	}
}

func partitionToWire(p storage.PartitionPlan) *hostv1.PartitionPlan {
	return &hostv1.PartitionPlan{
		Id: textToWire(p.ID), Action: string(p.Action), Number: int32(p.Number), Path: textToWire(p.Path), Offset: p.Offset, Size: p.Size,
		Grown: p.Grown, Type: textToWire(p.Type), Uuid: p.UUID, Label: textToWire(p.Label),
	}
}

func lossToWire(l storage.Loss) *hostv1.Loss {
	return &hostv1.Loss{
		What: l.What, Path: textToWire(l.Path), Size: l.Size, Label: textToWire(l.Label), Uuid: textToWire(l.UUID), Content: textToWire(l.Content),
	}
}

func layerToWire(l storage.Layer) *hostv1.Layer {
	return &hostv1.Layer{
		Id: textToWire(l.ID), Kind: string(l.Kind), Members: mapSlice(l.Members, textToWire),
		Action: string(l.Action), Path: textToWire(l.Path), Name: textToWire(l.Name), Level: l.Level, Uuid: l.UUID, Size: l.Size,
	}
}

func mountToWire(m storage.Mount) *hostv1.Mount {
	return &hostv1.Mount{Id: textToWire(m.ID), Source: m.Source, Type: m.Type, At: textToWire(m.At)}
}

func formatToWire(f storage.Format) *hostv1.Format {
	return &hostv1.Format{Id: textToWire(f.ID), Path: textToWire(f.Path), Type: textToWire(f.Type), Uuid: textToWire(f.UUID), Mount: textToWire(f.Mount)}
}
