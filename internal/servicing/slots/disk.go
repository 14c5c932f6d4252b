package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

// StreamRequest is a request to write a whole disk from an image.
type StreamRequest struct {
	URL string
	// SHA384 is the digest of the image's metadata in 96 hexadecimal digits, or Ignored.
	SHA384        string
	CallerReboots bool
	// BytesPerSecond and DataBudget limit the rate and the sum of the fetched bytes; 0 is
	// no limit.
	BytesPerSecond, DataBudget int64
	// Timeout limits the time of each step that reads the image; 0 is no limit.
	Timeout time.Duration
}

// Ignored, in place of a digest, accepts any image.
const Ignored = string(hostconfig.HashIgnored)

// OpStreamDisk is the kind, in the journal, of an operation that writes a disk.
const OpStreamDisk = "stream-disk"

// diskRecord is the record of an operation that writes a whole disk. The rules of record
// hold for it too.
type diskRecord struct {
	URL           string    `json:"url"`
	Want          string    `json:"want"` // digest of the metadata, or Ignored
	CallerReboots bool      `json:"caller_reboots"`
	Pin           fetch.Pin `json:"pin"`
	SHA384        string    `json:"sha384"` // actual digest of the metadata
	Window        int64     `json:"window"` // see record
	Disk          string    `json:"disk"`   // path of the device
	Parts         []part    `json:"parts"`
	RebootFrom    string    `json:"reboot_from"`
	Rate          int64     `json:"rate"`   // bytes per second
	Budget        int64     `json:"budget"` // bytes
	Used          int64     `json:"used"`   // bytes fetched so far
	// Timeout limits each step that reads the image.
	Timeout time.Duration `json:"timeout"`
}

type diskRun = operation.Run[diskRecord]

// diskSteps returns the steps that write an image to the smallest disk that it fits on. The
// partition table is last: nothing on the disk boots before every partition is verified.
func (s *Service) diskSteps() []change.Step[diskRecord, planned] {
	return []change.Step[diskRecord, planned]{
		{Name: "image", Do: s.examineDisk},                           // no Undo: it changes nothing
		{Name: "write", Do: s.writeDisk, Effects: writesDisk},        // no Undo: what the disk contained is lost, and without a table nothing boots from it
		{Name: "table", Do: s.makeTable, Effects: writesTable},       // no Undo: the disk is complete and verified
		{Name: "reboot", Do: s.rebootIntoDisk, Effects: rebootsHost}, // no Undo: the written system does not know of this operation
	}
}

// StreamDisk returns the start of an operation that writes an image to the smallest disk
// that it fits on, and boots it.
func (s *Service) StreamDisk(req StreamRequest) change.Begin {
	r := diskRecord{
		URL: req.URL, Want: strings.ToLower(req.SHA384), CallerReboots: req.CallerReboots, Rate: req.BytesPerSecond, Budget: req.DataBudget, Timeout: req.Timeout,
	}
	return func(ctx context.Context) (operation.Operation, error) {
		return s.stream(ctx, "write a disk from an image", r)
	}
}

// withImage opens the image while use runs, and records in Used what was fetched.
func (s *Service) withImage(ctx context.Context, r *diskRun, use func(context.Context, *metered) error) (err error) {
	ctx, cancel := fetch.WithTimeout(ctx, r.State.Timeout)
	defer cancel()
	digest := r.State.Want
	if r.State.SHA384 != "" {
		digest = r.State.SHA384
	}
	meter := fetch.NewMeter(r.State.Rate, r.State.Budget, r.State.Used)
	defer func() { r.State.Used = meter.Used() }()
	i, err := s.open(ctx, imageSource{url: r.State.URL, pin: r.State.Pin, digest: digest, meter: meter}, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	i.LimitWindow(r.State.Window)
	return use(ctx, &metered{i, meter})
}

// metered is an image with the meter of its bytes.
type metered struct {
	*image.Image
	meter *fetch.Meter
}

// examineDisk opens the image and picks the disk.
func (s *Service) examineDisk(ctx context.Context, r *diskRun) error {
	if err := s.safeToInstall(); err != nil {
		return err
	}
	if r.State.Want == Ignored {
		r.Logf(slog.LevelWarn, "no hash of the image was given: whatever the server sends is written to the disk and booted%s", byHTTP(r.State.URL))
	}
	return s.withImage(ctx, r, func(ctx context.Context, i *metered) error { return s.fitDisk(ctx, r, i) })
}

// byHTTP returns the additional warning for a URL of plain http, else "".
func byHTTP(text string) string {
	if fetch.Scheme(text) != "http" {
		return ""
	}
	return "; with plain http anybody on the network path can change it"
}

func (s *Service) fitDisk(ctx context.Context, r *diskRun, i *metered) (err error) {
	if r.State.Window, err = s.fitMemory(ctx, i.Image); err != nil {
		return err
	}
	m := i.Metadata()
	if m.Disk == nil {
		return errkind.WithName(errkind.Errorf(errkind.Unsupported, "the image (COSI %s) does not describe a disk; version 1.2 or later does", m.Version), errkind.NameDeriveHostConfiguration)
	}
	if err := s.sameArch(m); err != nil {
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
			r.State.Parts = append(r.State.Parts, part{Name: fmt.Sprintf("partition %d", p.Number), File: p.File.Path, Size: p.File.Compressed, SHA384: p.File.SHA384})
		}
	}
	if err := s.examineTable(ctx, r, i, disk); err != nil {
		return err
	}
	if i.Local() { // before the disk is overwritten, since it costs no network
		for _, p := range i.Partitions() {
			if _, err := p.Check(ctx); err != nil {
				return errkind.WithName(fmt.Errorf("read the image: %w", err), errkind.NameCorruptOsImage)
			}
		}
	}
	plan := change.Plan{Kind: change.CleanInstall, Steps: change.Planned(s.diskSteps(), &planned{stream: &r.State})}
	r.Logf(slog.LevelInfo, "the disk is %s, of %d bytes; everything on it will be lost\n%s", disk.Path, disk.Size, &plan)
	return nil
}

// examineTable checks that the partition table of the image has a large enough entry for
// each part, and that it fits on the disk.
func (s *Service) examineTable(ctx context.Context, r *diskRun, i *metered, disk *blockdev.Disk) error {
	table, err := i.Table(ctx)
	if err != nil {
		return errkind.WithName(fmt.Errorf("read the image's partition table: %w", err), errkind.NameCorruptOsImage)
	}
	for _, p := range r.State.Parts {
		from, e, err := p.place(i, table)
		if err != nil {
			return err
		}
		if from.File.Size > e.Size {
			return errkind.WithName(errkind.Errorf(errkind.Corrupt, "%s of the image has %d bytes, but only %d in the image's partition table", p.Name, from.File.Size, e.Size), errkind.NameCorruptOsImage)
		}
	}
	fitted := gpt.Disk{ID: table.ID, BootCode: table.BootCode, Size: disk.Size, SectorSize: disk.SectorSize, Entries: table.Entries}
	return errkind.WithName(fitted.Check(), errkind.NameCreatePartitions)
}

// place returns the partition of p in the image, and its entry in the table.
func (p part) place(i *metered, table *gpt.Disk) (image.Partition, gpt.Entry, error) {
	from, err := p.in(i.Image)
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
	inv, err := s.Machine.Inventory()
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

func (s *Service) openDisk(r *diskRun) (blockdev.Device, error) {
	return s.Machine.Disks.Open(r.State.Disk, true)
}

// writeDisk wipes the old table, and writes every partition to its place on the disk.
func (s *Service) writeDisk(ctx context.Context, r *diskRun) error {
	return s.withImage(ctx, r, func(ctx context.Context, i *metered) error { return s.writeParts(ctx, r, i) })
}

func (s *Service) writeParts(ctx context.Context, r *diskRun, i *metered) (err error) {
	table, err := i.Table(ctx)
	if err != nil {
		return err
	}
	dev, err := s.openDisk(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if !slices.ContainsFunc(r.State.Parts, func(p part) bool { return p.Done }) {
		if err := s.Touch("wipe table", func() error { return wipeTable(dev) }); err != nil {
			return err
		}
	}
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

func (s *Service) writeDiskPart(ctx context.Context, r *diskRun, i *metered, table *gpt.Disk, dev blockdev.Device, p *part, progress func(int64)) error {
	from, e, err := p.place(i, table)
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
	if err := p.verified(v, from.File); err != nil {
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

// makeTable writes the partition table of the image, fitted to the disk.
func (s *Service) makeTable(ctx context.Context, r *diskRun) error {
	return s.withImage(ctx, r, func(ctx context.Context, i *metered) error { return s.writeTable(ctx, r, i) })
}

// writeTable makes the disk bootable, so it fails unless every partition is proven; see
// record.prove for records of older releases.
func (s *Service) writeTable(ctx context.Context, r *diskRun, i *metered) (err error) {
	if _, err := (&record{Parts: r.State.Parts}).prove(); err != nil {
		return err
	}
	table, err := i.Table(ctx)
	if err != nil {
		return err
	}
	dev, err := s.openDisk(r)
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

// rebootIntoDisk reboots the host. The written system does not know of this operation.
func (s *Service) rebootIntoDisk(ctx context.Context, r *diskRun) error {
	if r.State.RebootFrom == "" {
		r.State.RebootFrom = s.Runner.Life.Boot
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	if r.State.RebootFrom != s.Runner.Life.Boot {
		return nil
	}
	if r.State.CallerReboots {
		return operation.ErrReboot
	}
	r.Logf(slog.LevelInfo, "Requesting reboot into the written disk")
	return operation.RequestReboot(s.rebootHost)
}
