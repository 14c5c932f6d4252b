package wholedisk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/liveos"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// withImage returns a Do that opens the image while do runs, and records in Used what was
// fetched.
func (s *Service) withImage(do func(context.Context, *diskRun, *metered) error) func(context.Context, *diskRun) error {
	return func(ctx context.Context, r *diskRun) error { return s.openImage(ctx, r, do) }
}

func (s *Service) openImage(ctx context.Context, r *diskRun, do func(context.Context, *diskRun, *metered) error) (err error) {
	ctx, cancel := fetch.WithTimeout(ctx, r.State.Timeout)
	defer cancel()
	digest := r.State.Want
	if r.State.SHA384 != "" {
		digest = r.State.SHA384
	}
	meter := fetch.NewMeter(r.State.Rate, r.State.Budget, r.State.Used)
	defer func() { r.State.Used = meter.Used() }()
	i, err := s.Disks.Open(ctx, disks.Source{URL: r.State.URL, Pin: r.State.Pin, Digest: digest, Meter: meter}, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	i.LimitWindow(r.State.Window)
	return do(ctx, r, &metered{i, meter})
}

// metered is an image with the meter of its bytes.
type metered struct {
	*image.Image
	meter *fetch.Meter
}

// examineDisk opens the image and picks the disk.
func (s *Service) examineDisk(ctx context.Context, r *diskRun) error {
	if err := liveos.CheckLive(s.Root); err != nil {
		return err
	}
	if r.State.Want == Ignored {
		r.Logf(slog.LevelWarn, "no hash of the image was given: whatever the server sends is written to the disk and booted%s", byHTTP(r.State.URL))
	}
	return s.openImage(ctx, r, s.fitDisk)
}

// byHTTP returns the additional warning for a URL of plain http, else "".
func byHTTP(text string) string {
	if fetch.Scheme(text) != "http" {
		return ""
	}
	return "; with plain http anybody on the network path can change it"
}

func (s *Service) fitDisk(ctx context.Context, r *diskRun, i *metered) (err error) {
	if r.State.Window, err = s.Disks.FitMemory(ctx, i.Image); err != nil {
		return err
	}
	m := i.Metadata()
	if m.Disk == nil {
		return errkind.WithName(errkind.Errorf(errkind.Unsupported, "the image (COSI %s) does not describe a disk; version 1.2 or later does", m.Version), errkind.NameDeriveHostConfiguration)
	}
	if n := len(i.Extensions()); n > 0 {
		err := errkind.Errorf(errkind.Unsupported, "the image carries extensions, %d of them, and a disk that is written whole would not get them", n)
		return errkind.WithName(errkind.WithHint(err, "Install the image with a Host Configuration, or build it without extensions."), errkind.NameDeriveHostConfiguration)
	}
	if err := s.Disks.SameArch(m); err != nil {
		return err
	}
	disk, err := s.pickDisk(m.Disk)
	if err != nil {
		return err
	}
	r.State.Pin, r.State.SHA384, r.State.Disk = i.Pin(), i.SHA384(), disk.Path
	r.State.Parts = nil
	for _, p := range i.Partitions() {
		if p.Type == image.PartitionRegion {
			r.State.Parts = append(r.State.Parts, record.Part{Name: fmt.Sprintf("partition %d", p.Number), File: p.File.Path, Size: p.File.Compressed, SHA384: p.File.SHA384})
		}
	}
	table, err := s.examineTable(ctx, r, i, disk)
	if err != nil {
		return err
	}
	if i.Local() { // before the disk is overwritten, since it costs no network
		for _, p := range i.Partitions() {
			if _, err := p.Check(ctx); err != nil {
				return errkind.WithName(fmt.Errorf("read the image: %w", err), errkind.NameCorruptOsImage)
			}
		}
	}
	plan := change.Plan{Kind: change.CleanInstall, Steps: change.Planned(s.steps(), &r.State), Storage: storage.WholeDisk(disk, table)}
	r.Logf(slog.LevelInfo, "the disk is %s, of %d bytes; everything on it will be lost\n%s", disk.Path, disk.Size, &plan)
	return nil
}

// examineTable checks that the partition table of the image has a large enough entry for
// each part, and that it fits on the disk. It returns the table.
func (s *Service) examineTable(ctx context.Context, r *diskRun, i *metered, disk *blockdev.Disk) (*gpt.Disk, error) {
	table, err := i.Table(ctx)
	if err != nil {
		return nil, errkind.WithName(fmt.Errorf("read the image's partition table: %w", err), errkind.NameCorruptOsImage)
	}
	for _, p := range r.State.Parts {
		from, e, err := place(p, i, table)
		if err != nil {
			return nil, err
		}
		if from.File.Size > e.Size {
			return nil, errkind.WithName(errkind.Errorf(errkind.Corrupt, "%s of the image has %d bytes, but only %d in the image's partition table", p.Name, from.File.Size, e.Size), errkind.NameCorruptOsImage)
		}
	}
	fitted := &gpt.Disk{ID: table.ID, BootCode: table.BootCode, Size: disk.Size, SectorSize: disk.SectorSize, Entries: table.Entries}
	return fitted, errkind.WithName(fitted.Check(), errkind.NameCreatePartitions)
}

// place returns the partition of p in the image, and its entry in the table.
func place(p record.Part, i *metered, table *gpt.Disk) (image.Partition, gpt.Entry, error) {
	from, err := p.In(i.Image)
	if err != nil {
		return from, gpt.Entry{}, err
	}
	e := slices.IndexFunc(table.Entries, func(e gpt.Entry) bool { return e.Number == from.Number })
	if e < 0 {
		err := errkind.Errorf(errkind.Corrupt, "the image's partition table has no entry %d", from.Number)
		return from, gpt.Entry{}, errkind.WithName(err, errkind.NameCorruptOsImage)
	}
	return from, table.Entries[e], nil
}

// pickDisk returns the smallest unused disk that the image fits on.
func (s *Service) pickDisk(want *image.Disk) (*blockdev.Disk, error) {
	inv, err := s.Disks.Machine.Inventory()
	if err != nil {
		return nil, err
	}
	var best *blockdev.Disk
	for n := range inv.Disks {
		d := &inv.Disks[n]
		known := slices.ContainsFunc([]string{"sd", "nvme", "vd", "hd", "mmcblk"}, func(p string) bool { return strings.HasPrefix(d.Name, p) })
		used := d.Use.InUse() || slices.ContainsFunc(d.Partitions, func(p blockdev.Partition) bool { return p.Use.InUse() })
		if !known || used || d.ReadOnly || d.Size < want.Size || d.SectorSize != int64(want.LBASize) {
			continue
		}
		if best == nil || d.Size < best.Size {
			best = d
		}
	}
	if best == nil {
		err := errkind.Errorf(errkind.Precondition, "no unused disk of this host has at least %d bytes in sectors of %d bytes", want.Size, want.LBASize)
		return nil, errkind.WithName(err, errkind.NameNoSuitableDisk)
	}
	return best, nil
}
