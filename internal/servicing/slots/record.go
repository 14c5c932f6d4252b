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

// record is the state of an operation that ends with a boot. Another version of Trident may
// continue it: add fields, never rename, remove or retype one, and never add a map.
type record struct {
	// Asked is the configuration to reach; Old is the present one, "" in an installation.
	// Both are YAML.
	Asked   hostconfig.Recorded `json:"asked"`
	Old     hostconfig.Recorded `json:"old"`
	Purpose purpose             `json:"-"` // see MarshalJSON
	// Slot is written and tried.
	Slot          slot.Slot `json:"slot"`
	CallerReboots bool      `json:"caller_reboots"`
	Reasons       []string  `json:"reasons"`

	// ManagementKept are the previous network files of the live system; valid once
	// ManagementBegun is set.
	ManagementKept  []osconfig.Kept `json:"management_kept"`
	ManagementBegun bool            `json:"management_begun"`

	// Seed makes the plan of the disks the same at each call.
	Seed    []byte   `json:"seed"`
	Paths   []device `json:"paths"` // durable paths of partitions
	Disks   []device `json:"disks"` // UUIDs of disks
	Index   int      `json:"index"` // of the OS on its ESP; during an installation valid once Indexed is set
	Indexed bool     `json:"indexed"`
	// Pin identifies the content of the image's URL, SHA384 is the digest of its metadata,
	// Used is how many bytes were fetched so far.
	Pin    fetch.Pin `json:"pin"`
	SHA384 string    `json:"sha384"`
	// Window is the largest zstd window, in bytes, that the host has memory for; 0: any.
	Window int64  `json:"window"`
	Used   int64  `json:"used"`
	Parts  []part `json:"parts"`
	// Partitioned is set after the step "partition".
	Partitioned bool `json:"partitioned"`
	// Examined is set after examine, and BootBegun before a change of what boots. Older
	// releases set neither.
	Examined  bool `json:"examined,omitempty"`
	BootBegun bool `json:"boot_begun,omitempty"`

	Extensions extension.Change `json:"extensions"`

	// RebootFrom is the ID of the boot in which Trident requested the reboot into the new
	// system; Ended is the ID of the boot in which the operation ended.
	RebootFrom string `json:"reboot_from"`
	Ended      string `json:"ended"`
	// BootedFrom is the root device that booted instead of BootedWanted.
	BootedFrom   string `json:"booted_from,omitempty"`
	BootedWanted string `json:"booted_wanted,omitempty"`
}

// A device is the path or UUID of a device of the configuration.
type device struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// A part is the image of one partition, and the progress of its writing.
type part struct {
	Name   string `json:"name"` // for people: its mount point
	Device string `json:"device"`
	File   string `json:"file"` // in the image
	ESP    bool   `json:"esp"`  // only its files are used
	Size   int64  `json:"size"` // bytes of the file, compressed
	Type   string `json:"type"` // of the file system
	Done   bool   `json:"done"`
	// SHA384 is the digest of the file in the image's metadata, and Proof, once Done, the
	// actual digest of all of its bytes. Content is the SHA-256 of the unpacked image of an
	// ESP. Older releases recorded none of them: see prove.
	SHA384  string `json:"sha384,omitempty"`
	Proof   string `json:"proof,omitempty"`
	Content string `json:"content,omitempty"`
	// ReadOnly is set if the configuration mounts it read-only.
	ReadOnly bool `json:"read_only,omitempty"`
	// At is where writing continues.
	At image.Checkpoint `json:"at"`
}

// proven is the proof that all content of a slot has the digests of its image. Only prove
// and wasKept return one with a slot. Boot files and a trial need one.
type proven struct{ of slot.Slot }

// prove returns the proof for the written slot, or an error that names the unproven part.
// The record has the actual digests, so prove works after a restart too. It accepts the
// record of an older release, which has no digests: that release set Done only with the
// proof. It also accepts a record without parts: of a slot that an older release, or
// upstream's Trident, has staged.
func (r *record) prove() (proven, error) {
	for _, p := range r.Parts {
		if !p.Done || p.SHA384 != "" && p.Proof != p.SHA384 {
			return proven{}, errkind.Errorf(errkind.Internal, "%s was not written, or not found to be what the image's metadata says", p.Name)
		}
	}
	return proven{r.Slot}, nil
}

// wasKept returns the proof for a slot that has run and was kept, for a rollback.
func (r *record) wasKept() proven { return proven{r.Slot} }

// verified marks the part as done, with its proof v, or fails if v is not of f.
func (p *part) verified(v image.Verified, f image.File) error {
	if !v.Of(f) {
		return errkind.Errorf(errkind.Internal, "%s is done without a proof of %s", p.Name, f.Path)
	}
	p.Done, p.SHA384, p.Proof = true, f.SHA384, v.SHA384()
	return nil
}

// in returns the part's partition in its image.
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

// espID returns the id of the ESP's device and its mount point, or "".
func espID(s *hostconfig.Storage) (id, mount string) {
	for i := range s.Filesystems {
		if f := &s.Filesystems[i]; f.IsESP() {
			return f.DeviceID, f.MountPoint.Path
		}
	}
	return "", ""
}

// rootID returns the id of the root file system's device, or "".
func rootID(s *hostconfig.Storage) string {
	for _, f := range s.Filesystems {
		if f.MountPoint != nil && f.MountPoint.Path == "/" {
			return f.DeviceID
		}
	}
	return ""
}
