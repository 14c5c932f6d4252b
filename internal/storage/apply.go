package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// Touch makes one change of the host, which has the given name. Tests cut the power there.
type Touch func(name string, change func() error) error

// nodeTimeout bounds the wait for device nodes.
const nodeTimeout = 120 * time.Second

// Apply ends what the plan releases, partitions the disks, creates arrays and encrypted
// volumes, and makes the empty file systems. Arrays may still be copying afterwards, but not
// that of the EFI system partition, because firmware reads its members. Apply does not
// write the file systems that come from the image. A caller may call Apply again after a
// failure or a power cut, also with the plan that NewPlan returns again for the same seed;
// Apply then destroys what the call before has made.
//
// Apply fails before the first write if a disk is neither as it was for NewPlan nor as the
// plan leaves it. At each touch, and after a failure, the partition table of a disk is the
// old or the new one. Everything that the plan does not keep is lost from the first write on.
func (p *Plan) Apply(ctx context.Context, tools Tools, touch Touch) error {
	if p == nil || !p.described.Slot.Valid() {
		return errkind.Errorf(errkind.Internal, "apply storage plan: it was not made by NewPlan")
	}
	if touch == nil {
		touch = func(_ string, change func() error) error { return change() }
	}
	if err := p.CheckTools(tools); err != nil {
		return err
	}
	for _, d := range p.disks {
		if err := d.unchanged(tools); err != nil {
			return d.fault(err)
		}
	}
	if err := p.end(ctx, tools, touch); err != nil {
		return err
	}
	for _, d := range p.disks {
		if err := d.apply(ctx, tools, touch); err != nil {
			return d.fault(err)
		}
	}
	if err := p.create(ctx, tools, touch); err != nil {
		return err
	}
	for _, f := range p.described.Formats {
		if err := touch(f.step(), func() error { return tools.format(ctx, f) }); err != nil {
			return errkind.WithName(fmt.Errorf("%s (%s): %w", f.step(), f.Path, err), formatName(f))
		}
	}
	return p.awaitSync(ctx, tools)
}

func (d diskWork) fault(err error) error {
	return errkind.WithName(fmt.Errorf("partition disk %q (%s): %w", d.id, d.path, err), errkind.NameCreatePartitions)
}

// unchanged fails if the disk is neither as it was for NewPlan nor as the plan leaves it.
func (d diskWork) unchanged(tools Tools) (err error) {
	dev, err := tools.open(d.path, false)
	if err != nil {
		return err
	}
	return errors.Join(d.same(dev), dev.Close())
}

func (d diskWork) apply(ctx context.Context, tools Tools, touch Touch) error {
	if err := d.write(ctx, tools, touch); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	if err := d.await(ctx, tools, false); err != nil || !tools.Udev {
		return err
	}
	if _, err := tools.Runner.Run(ctx, "udevadm", "settle", fmt.Sprintf("--timeout=%.0f", nodeTimeout.Seconds())); err != nil {
		return err
	}
	return d.await(ctx, tools, true)
}

// await waits for the device nodes of the new partitions and, with links, for the links that udev makes.
func (d diskWork) await(ctx context.Context, tools Tools, links bool) error {
	await := tools.Await
	if await == nil {
		await = blockdev.Await
	}
	for _, p := range d.created {
		paths := []string{p.Path}
		if links {
			paths = append(paths, ByPartUUID+p.UUID)
		}
		if err := await(ctx, paths...); err != nil {
			return err
		}
	}
	return nil
}

// write writes the partition table and wipes old signatures from the places of the new
// partitions, before the kernel and udev see these partitions.
func (d diskWork) write(ctx context.Context, tools Tools, touch Touch) (err error) {
	dev, err := tools.open(d.path, !d.shared)
	if err != nil {
		return err
	}
	defer func() {
		if e := dev.Close(); err == nil {
			err = e
		}
	}()
	if err := d.same(dev); err != nil {
		return err
	}
	if d.table.Written(dev) != nil {
		if err := d.table.Write(dev, touch); err != nil {
			return err
		}
		if err := d.table.Written(dev); err != nil {
			return err
		}
	}
	for _, p := range d.created {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := touch("wipe "+p.ID, func() error { return wipe(dev, extent{p.Offset, p.Size}) }); err != nil {
			return fmt.Errorf("wipe partition %q: %w", p.ID, err)
		}
	}
	if err := touch("wipe between the partitions of "+d.id, func() error { return d.wipeGaps(ctx, dev) }); err != nil {
		return fmt.Errorf("wipe between the partitions: %w", err)
	}
	return touch("re-read "+d.id, func() error { return dev.Reread(ctx) })
}

// same fails if the table of dev is neither the one that NewPlan found nor the one of the plan.
func (d diskWork) same(dev blockdev.Device) error {
	const changed = "the disk is not what it was when the plan was made: %s"
	if dev.Size() != d.table.Size || dev.SectorSize() != d.table.SectorSize {
		return errkind.Errorf(errkind.Precondition, changed, fmt.Sprintf("it has %d bytes in sectors of %d", dev.Size(), dev.SectorSize()))
	}
	now, err := gpt.ReadDisk(dev, dev.Size(), dev.SectorSize())
	if kind := errkind.Of(err); err != nil && kind != errkind.NotFound && kind != errkind.Corrupt {
		return err
	}
	switch {
	case err != nil && d.seen == nil:
	case err == nil && (now.Equal(d.table) || d.seen != nil && now.Equal(d.seen)):
	case err != nil:
		return errkind.Errorf(errkind.Precondition, changed, err)
	default:
		return errkind.Errorf(errkind.Precondition, changed, "it has another partition table")
	}
	return nil
}

// wipeGaps wipes the areas that belong to no partition. These areas and the new partitions
// are where a former use of the whole disk has its signatures: MD 0.90 and ZFS near the
// end, ISO 9660, btrfs and ZFS near the start.
func (d diskWork) wipeGaps(ctx context.Context, dev blockdev.Device) error {
	for _, gap := range d.gaps() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := wipe(dev, gap); err != nil {
			return err
		}
	}
	return nil
}

// gaps returns the areas between the two copies of the table that are in no partition.
func (d diskWork) gaps() []extent {
	entries := slices.Clone(d.table.Entries)
	slices.SortFunc(entries, func(a, b gpt.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	end := gpt.EndUsable(d.table.Size, d.table.SectorSize)
	entries = append(entries, gpt.Entry{Offset: end})
	var out []extent
	at := gpt.FirstUsable(d.table.SectorSize)
	for _, e := range entries {
		if e.Offset > at {
			out = append(out, extent{at, e.Offset - at})
		}
		at = max(at, e.Offset+e.Size)
	}
	return out
}

// wipe overwrites the signatures of a former content. File systems, RAID and LVM have them
// at the start or at the end of a device.
func wipe(dev blockdev.Device, e extent) error {
	if err := dev.Discard(e.offset, e.size); err != nil {
		return err
	}
	zeros := make([]byte, min(mib, e.size))
	ends := []int64{e.offset, e.offset + e.size - int64(len(zeros))}
	for _, at := range ends {
		if _, err := dev.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	got := make([]byte, len(zeros))
	for _, at := range ends {
		if _, err := dev.ReadAt(got, at); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !bytes.Equal(got, zeros) {
			return errkind.Errorf(errkind.Corrupt, "read back: zeros at byte %d do not read as zeros", at)
		}
	}
	return nil
}
