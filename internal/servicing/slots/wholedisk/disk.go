// Package wholedisk has the operation that writes a whole disk from an image.
package wholedisk

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/disks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
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

// diskRecord is the record of an operation that writes a whole disk. The rules of
// [record.Record] hold for it too.
type diskRecord struct {
	URL           string        `json:"url"`
	Want          string        `json:"want"` // digest of the metadata, or Ignored
	CallerReboots bool          `json:"caller_reboots"`
	Pin           fetch.Pin     `json:"pin"`
	SHA384        string        `json:"sha384"` // actual digest of the metadata
	Window        int64         `json:"window"` // see record.Record
	Disk          string        `json:"disk"`   // path of the device
	Parts         []record.Part `json:"parts"`
	RebootFrom    string        `json:"reboot_from"`
	Rate          int64         `json:"rate"`   // bytes per second
	Budget        int64         `json:"budget"` // bytes
	Used          int64         `json:"used"`   // bytes fetched so far
	// Timeout limits each step that reads the image.
	Timeout time.Duration `json:"timeout"`
}

// Service has the operation on one host.
type Service struct {
	*change.Host
	Disks *disks.Disks

	start operation.Starter[diskRecord]
}

// Register registers the operation with the runner of the host.
func (s *Service) Register() {
	s.start = operation.Register(s.Runner, operation.Kind[diskRecord]{Name: OpStreamDisk, Steps: change.Runnable(s.steps())})
}

type diskRun = operation.Run[diskRecord]

// steps returns the steps that write an image to the smallest disk that it fits on. The
// partition table is last: nothing on the disk boots before every partition is verified.
func (s *Service) steps() []change.Step[diskRecord, diskRecord] {
	return []change.Step[diskRecord, diskRecord]{
		{Name: "image", Do: s.examineDisk},                                                // no Undo: it changes nothing
		{Name: "write", Do: s.withImage(s.writeParts), Effects: writesDisk},               // no Undo: what the disk contained is lost, and without a table nothing boots from it
		{Name: "table", Do: s.withImage(s.writeTable), Effects: writesTable},              // no Undo: the disk is complete and verified
		{Name: "reboot", Do: s.rebootIntoDisk, Effects: change.RebootEffects[diskRecord]}, // no Undo: the written system does not know of this operation
	}
}

// StreamDisk returns the start of an operation that writes an image to the smallest disk
// that it fits on, and boots it.
func (s *Service) StreamDisk(req StreamRequest) change.Begin {
	r := diskRecord{
		URL: req.URL, Want: strings.ToLower(req.SHA384), CallerReboots: req.CallerReboots, Rate: req.BytesPerSecond, Budget: req.DataBudget, Timeout: req.Timeout,
	}
	return func(ctx context.Context) (operation.Operation, error) {
		return s.start(ctx, "write a disk from an image", r)
	}
}

func writesDisk(r *diskRecord) []change.Effect {
	var out change.Effects
	out.Add("wipe-table", r.Disk, "wipe the partition table of %s; everything on the disk is lost", r.Disk)
	for _, q := range r.Parts {
		out.Add("write-partition", q.Name, "write %s of the image to its place on %s", q.Name, r.Disk)
	}
	return out
}

func writesTable(r *diskRecord) []change.Effect {
	var out change.Effects
	out.Add("replace-table", r.Disk, "write the partition table of the image to %s", r.Disk)
	return out
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
	return operation.RequestReboot(s.Reboot)
}
