package slots

import (
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/slot"
)

// record is what a servicing knows that ends with a boot: an installation, an
// update into the other slot, the way back to it, and the commit of one that
// another program has begun. The rules of record hold for it too.
type record struct {
	// Asked is the configuration that the host shall have; Old is the one that it
	// has, "" for a host that is installed. Both are YAML.
	Asked   hostconfig.Recorded `json:"asked"`
	Old     hostconfig.Recorded `json:"old"`
	Purpose purpose             `json:"-"` // see MarshalJSON
	// Slot is the one that is written, and tried.
	Slot          slot.Slot `json:"slot"`
	CallerReboots bool      `json:"caller_reboots"`
	Reasons       []string  `json:"reasons"`

	// ManagementKept are the files of the network of the system that installs, as
	// they were; they count once ManagementBegun is set.
	ManagementKept  []osconfig.Kept `json:"management_kept"`
	ManagementBegun bool            `json:"management_begun"`

	// Seed is what the plan of the disks is made with, the same one each time.
	Seed    []byte   `json:"seed"`
	Paths   []device `json:"paths"` // of partitions, durable
	Disks   []device `json:"disks"` // UUIDs of disks
	Index   int      `json:"index"` // of the install on its ESP; it counts for an installation once Indexed is set
	Indexed bool     `json:"indexed"`
	// Pin is which content of the image's URL is meant, SHA384 the digest of its
	// metadata, Used the bytes that it has cost so far.
	Pin    fetch.Pin `json:"pin"`
	SHA384 string    `json:"sha384"`
	// Window is the largest zstd window, in bytes, that the host has memory for; 0: any.
	Window int64  `json:"window"`
	Used   int64  `json:"used"`
	Parts  []part `json:"parts"`
	// Partitioned is set once the disks are as the plan has them.
	Partitioned bool `json:"partitioned"`
	// Examined is set by releases that examine all of an image and of the host before the
	// disks are changed, and BootBegun before they change what boots.
	Examined  bool `json:"examined,omitempty"`
	BootBegun bool `json:"boot_begun,omitempty"`

	Extensions extension.Change `json:"extensions"`

	// RebootFrom is the boot in which the reboot into the new system was asked for;
	// Ended is the boot in which all was over.
	RebootFrom string `json:"reboot_from"`
	Ended      string `json:"ended"`
	// BootedFrom is the device that was booted in place of BootedWanted.
	BootedFrom   string `json:"booted_from,omitempty"`
	BootedWanted string `json:"booted_wanted,omitempty"`
}

// A device is a path or a UUID, by the id in the configuration.
type device struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// A part is one image of a partition, and how far it is written.
type part struct {
	Name   string `json:"name"` // for people: its mount point
	Device string `json:"device"`
	File   string `json:"file"` // in the image
	ESP    bool   `json:"esp"`  // it is not written, but its files are read
	Size   int64  `json:"size"` // bytes of the file, packed
	Type   string `json:"type"` // of the file system
	Done   bool   `json:"done"`
	// SHA384 is the digest of the file by the metadata of the image, and Proof the one
	// that all of its bytes were found to have, once Done. Content is the SHA-256 of the
	// unpacked image of an ESP. Older releases wrote down none of them: see proven.
	SHA384  string `json:"sha384,omitempty"`
	Proof   string `json:"proof,omitempty"`
	Content string `json:"content,omitempty"`
	// ReadOnly: the configuration mounts it read-only.
	ReadOnly bool `json:"read_only,omitempty"`
	// At is where writing goes on.
	At image.Checkpoint `json:"at"`
}

// proven is that a slot has what the digests of its image say, all of it. Only prove and
// wasKept make one that is of a slot, and without one no slot gets boot files or a trial.
type proven struct{ of slot.Slot }

// prove returns the proof for the slot that is written, or an error that names the part
// without one. The digests that were found are in the record, so they count after a
// restart too. A record of a release that wrote down none goes on: that release set Done
// only when it had the proof in its hands. So does a record without parts, of a slot that
// such a release, or upstream's, has staged.
func (r *record) prove() (proven, error) {
	for _, p := range r.Parts {
		if !p.Done || p.SHA384 != "" && p.Proof != p.SHA384 {
			return proven{}, errkind.Errorf(errkind.Internal, "%s was not written, or not found to be what the image's metadata says", p.Name)
		}
	}
	return proven{r.Slot}, nil
}

// wasKept is the proof for a slot that has run and was kept: a rollback goes there.
func (r *record) wasKept() proven { return proven{r.Slot} }

// verified notes that all of a part was right.
func (p *part) verified(v image.Verified, f image.File) error {
	if !v.Of(f) {
		return errkind.Errorf(errkind.Internal, "%s is done without a proof of %s", p.Name, f.Path)
	}
	p.Done, p.SHA384, p.Proof = true, f.SHA384, v.SHA384()
	return nil
}

// in is the part in its image.
func (p part) in(i *image.Image) (image.Partition, error) {
	for _, q := range i.Partitions() {
		if q.File.Path == p.File {
			return q, nil
		}
	}
	return image.Partition{}, errkind.Errorf(errkind.Corrupt, "the image has no file %s any more", p.File)
}

type (
	opRun  = operation.Run[record]
	opStep = change.Step[record, planned]
)

func toMap(list []device) map[string]string {
	out := make(map[string]string, len(list))
	for _, d := range list {
		out[d.ID] = d.Path
	}
	return out
}

func (r *record) asked() (*hostconfig.Config, error) {
	c, err := r.Asked.Config()
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return c, nil
}

// espID is the id of the device with the EFI system partition, and where it is
// mounted.
func espID(s *hostconfig.Storage) (id, mount string) {
	for i := range s.Filesystems {
		if f := &s.Filesystems[i]; f.IsESP() {
			return f.DeviceID, f.MountPoint.Path
		}
	}
	return "", ""
}

// rootID is the id of the device with the root file system.
func rootID(s *hostconfig.Storage) string {
	for _, f := range s.Filesystems {
		if f.MountPoint != nil && f.MountPoint.Path == "/" {
			return f.DeviceID
		}
	}
	return ""
}
