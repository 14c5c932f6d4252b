package disks

import (
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// PartitionEffects describes what Partition does.
func PartitionEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	d := e.Plan.Describe()
	if d.For == storage.Install {
		for _, disk := range d.Disks {
			out.Add("replace-table", disk.Path, "replace the partition table of %s; everything outside of adopted partitions is lost", disk.Path)
		}
	} else {
		out.Add("remove-boot-files", d.Slot.String(), "remove the boot files and the boot entry of %s", d.Slot)
	}
	for _, f := range d.Formats {
		out.Add("make-filesystem", f.Path, "make an empty file system %s on %s (%s)", f.Type, f.Path, f.ID)
	}
	return out
}

// WriteEffects describes what Write does.
func WriteEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	for _, q := range e.Record.Parts {
		if q.ESP {
			continue
		}
		target, err := e.Plan.Target(q.Device)
		if err != nil {
			continue
		}
		more := ""
		if !q.ReadOnly && !e.Whole[q.File] && len(storage.ResizeTools(q.Type)) > 0 {
			more = ", and make it as large as the partition"
		}
		out.Add("write-partition", target.Path, "write the image's file system for %s to %s (%s)%s", q.Name, target.Path, target.ID, more)
	}
	return out
}
