package wholedisk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// writeParts wipes the old table, and writes every partition to its place on the disk.
func (s *Service) writeParts(ctx context.Context, r *diskRun, i *metered) (err error) {
	table, err := i.Table(ctx)
	if err != nil {
		return err
	}
	dev, err := s.Disks.Machine.Disks.Open(r.State.Disk, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if !slices.ContainsFunc(r.State.Parts, func(p record.Part) bool { return p.Done }) {
		if err := s.Touch("wipe table", func() error { return wipeTable(dev) }); err != nil {
			return err
		}
	}
	s.Disks.UseMemory(i.Image)
	total, before := int64(0), int64(0)
	for _, p := range r.State.Parts {
		total += p.Size
	}
	for n := range r.State.Parts {
		p := &r.State.Parts[n]
		if !p.Done {
			said := func(packed int64) { r.ProgressPart(p.Name, packed, p.Size, before+packed, total) }
			if err := s.writeDiskPart(ctx, r, i, table, dev, p, said); err != nil {
				return errkind.WithName(fmt.Errorf("write %s: %w", p.Name, err), errkind.NameDeployImages)
			}
		}
		before += p.Size
	}
	return nil
}

func (s *Service) writeDiskPart(ctx context.Context, r *diskRun, i *metered, table *gpt.Disk, dev blockdev.Device, p *record.Part, progress func(int64)) error {
	from, e, err := place(*p, i, table)
	if err != nil {
		return err
	}
	to := window{dev, e.Offset, e.Size}
	var v image.Verified
	err = s.Touch("write partition", func() (err error) {
		v, err = from.Deploy(ctx, to, image.Deployment{
			From: p.At,
			Saved: func(at image.Checkpoint) error {
				p.At, r.State.Used = at, i.meter.Used()
				return r.Checkpoint(ctx)
			},
			Progress: func(packed, _ int64) { progress(packed) },
		})
		return err
	})
	if err != nil {
		return err
	}
	if err := p.Verified(v, from.File); err != nil {
		return err
	}
	r.State.Used = i.meter.Used()
	return r.Checkpoint(ctx)
}

// window is a range of a device.
type window struct {
	blockdev.Device
	offset, size int64
}

func (w window) Size() int64 { return w.size }

func (w window) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > w.size {
		return 0, errors.New("read past the end of the partition")
	}
	return w.Device.ReadAt(p, w.offset+off)
}

func (w window) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > w.size {
		return 0, errors.New("write past the end of the partition")
	}
	return w.Device.WriteAt(p, w.offset+off)
}

// tableRoom is, in bytes, more than a table takes at either end of a disk.
const tableRoom = 1 << 20

// wipeTable writes zeros over both copies of the partition table.
func wipeTable(dev blockdev.Device) error {
	zeros := make([]byte, min(tableRoom, dev.Size()))
	if _, err := dev.WriteAt(zeros, 0); err != nil {
		return err
	}
	if _, err := dev.WriteAt(zeros, dev.Size()-int64(len(zeros))); err != nil {
		return err
	}
	return dev.Sync()
}

// writeTable writes the partition table of the image, fitted to the disk. That makes the disk
// bootable, so writeTable fails unless every partition is proven; see
// [record.Record.Prove] for records of older releases.
func (s *Service) writeTable(ctx context.Context, r *diskRun, i *metered) (err error) {
	if _, err := (&record.Record{Parts: r.State.Parts}).Prove(); err != nil {
		return err
	}
	table, err := i.Table(ctx)
	if err != nil {
		return err
	}
	dev, err := s.Disks.Machine.Disks.Open(r.State.Disk, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	fitted := &gpt.Disk{ID: table.ID, BootCode: table.BootCode, Size: dev.Size(), SectorSize: dev.SectorSize(), Entries: table.Entries}
	if err := fitted.Write(dev, s.Touch); err != nil {
		return errkind.WithName(err, errkind.NameCreatePartitions)
	}
	return errkind.WithName(dev.Reread(ctx), errkind.NameCreatePartitions)
}
