// Package record has what the steps of an operation on slots share: the record in the
// journal, with the purpose of the operation and the proofs of what is written, and the
// results of the step "image".
package record

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// Record is the state of an operation that ends with a boot. Another version of Trident may
// continue it: add fields, never rename, remove or retype one, and never add a map.
type Record struct {
	// Asked is the configuration to reach; Old is the present one, "" in an installation.
	// Both are YAML.
	Asked   hostconfig.Recorded `json:"asked"`
	Old     hostconfig.Recorded `json:"old"`
	Purpose Purpose             `json:"-"` // see MarshalJSON
	// Slot is written and tried.
	Slot          slot.Slot `json:"slot"`
	CallerReboots bool      `json:"caller_reboots"`
	Reasons       []string  `json:"reasons"`

	// ManagementKept are the previous network files of the live system; valid once
	// ManagementBegun is set.
	ManagementKept  []osconfig.Kept `json:"management_kept"`
	ManagementBegun bool            `json:"management_begun"`

	// Seed makes the plan of the disks the same at each call.
	Seed    []byte  `json:"seed"`
	Paths   Devices `json:"paths"` // durable paths of partitions
	Disks   Devices `json:"disks"` // UUIDs of disks
	Index   int     `json:"index"` // of the OS on its ESP; during an installation valid once Indexed is set
	Indexed bool    `json:"indexed"`
	// Pin identifies the content of the image's URL, SHA384 is the digest of its metadata,
	// Used is how many bytes were fetched so far.
	Pin    fetch.Pin `json:"pin"`
	SHA384 string    `json:"sha384"`
	// Window is the largest zstd window, in bytes, that the host has memory for; 0: any.
	Window int64  `json:"window"`
	Used   int64  `json:"used"`
	Parts  []Part `json:"parts"`
	// Bootloader is the boot loader of the image, by its name in COSI metadata. It is "" before
	// the step "image", and in the record of an older release or of an operation without an
	// image. Beside is set for an installation beside other systems.
	Bootloader string `json:"bootloader,omitempty"`
	Beside     bool   `json:"beside,omitempty"`
	// Partitioned is set after the step "partition".
	Partitioned bool `json:"partitioned"`
	// Examined is set after examine, and BootBegun before a change of what boots. Older
	// releases set neither.
	Examined  bool `json:"examined,omitempty"`
	BootBegun bool `json:"boot_begun,omitempty"`

	// Immutable is set if the root is verified and the initrd mounts no overlay on its /etc:
	// Trident writes no file into the new OS.
	Immutable bool `json:"immutable,omitempty"`

	// Carried are the extensions that the image carries.
	Carried    []Carried        `json:"carried,omitempty"`
	Extensions extension.Change `json:"extensions"`

	// Sealed has the encrypted volumes of both slots. Older releases recorded none.
	Sealed []Sealed `json:"sealed,omitempty"`

	// RebootFrom is the ID of the boot in which Trident requested the reboot into the new
	// system; Ended is the ID of the boot in which the operation ended.
	RebootFrom string `json:"reboot_from"`
	Ended      string `json:"ended"`
	// BootedFrom is the root device that booted instead of BootedWanted.
	BootedFrom   string `json:"booted_from,omitempty"`
	BootedWanted string `json:"booted_wanted,omitempty"`
}

// Devices are in a list, because a journaled record has no map.
type Devices []Device

// A Device is the path or UUID of a device of the configuration.
type Device struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// A Part is the image of one partition, and the progress of its writing.
type Part struct {
	Name   string `json:"name"` // for people: its mount point
	Device string `json:"device"`
	File   string `json:"file"` // in the image
	ESP    bool   `json:"esp"`  // only its files are used
	Size   int64  `json:"size"` // bytes of the file, compressed
	Type   string `json:"type"` // of the file system
	Done   bool   `json:"done"`
	// SHA384 is the digest of the file in the image's metadata, and Proof, once Done, the
	// actual digest of all of its bytes. Content is the SHA-256 of the unpacked image of an
	// ESP. Older releases recorded none of them: see Prove.
	SHA384  string `json:"sha384,omitempty"`
	Proof   string `json:"proof,omitempty"`
	Content string `json:"content,omitempty"`
	// ByTree is set, once Done, if the part was written by blocks, each of which matched the
	// hash tree: then there is no Proof, and that of Tree proves the part. Older releases do not
	// know it, and refuse the slot.
	ByTree bool `json:"by_tree,omitempty"`
	// ReadOnly is set if the configuration mounts it read-only.
	ReadOnly bool `json:"read_only,omitempty"`
	// Tree is set if dm-verity verifies the partition; its hash partition is a part of its own.
	Tree *Tree `json:"tree,omitempty"`
	// At is where writing continues.
	At image.Checkpoint `json:"at"`
}

// Proof is the proof that all content of a slot has the digests of its image. Only Prove
// and WasKept return one with a slot. Boot files and a trial need one.
type Proof struct{ of slot.Slot }

// Of reports whether p is a proof of s.
func (p Proof) Of(s slot.Slot) bool { return s.Valid() && p.of == s }

// Prove returns the proof for the written slot, or an error that names the unproven part.
// The record has the actual digests, so Prove works after a restart too. It accepts the
// record of an older release, which has no digests: that release set Done only with the
// proof. It also accepts a record without parts: of a slot that an older release, or
// upstream's Trident, has staged.
func (r *Record) Prove() (Proof, error) {
	for _, p := range r.Parts {
		if !p.Done || !p.hasContent() {
			return Proof{}, errkind.Errorf(errkind.Internal, "%s was not written, or does not have the verified content of the image", p.Name)
		}
		if p.Tree != nil && p.Tree.Proof != p.Tree.RootHash {
			return Proof{}, errkind.Errorf(errkind.Internal, "%s was not compared with its verity hash tree", p.Name)
		}
	}
	return Proof{r.Slot}, nil
}

// WasKept returns the proof for a slot that has run and was kept, for a rollback.
func (r *Record) WasKept() Proof { return Proof{r.Slot} }

// Verified marks the part as done, with its proof v, or fails if v is not of f.
func (p *Part) Verified(v image.Verified, f image.File) error {
	if !v.Of(f) {
		return errkind.Errorf(errkind.Internal, "%s is done without a proof of %s", p.Name, f.Path)
	}
	p.Done, p.SHA384, p.Proof = true, f.SHA384, v.SHA384()
	return nil
}

// In returns the part's partition in its image.
func (p Part) In(i *image.Image) (image.Partition, error) {
	for _, q := range i.Partitions() {
		if q.File.Path == p.File {
			return q, nil
		}
	}
	return image.Partition{}, errkind.Errorf(errkind.Corrupt, "the image has no file %s any more", p.File)
}

// Config returns the configuration to reach.
func (r *Record) Config() (*hostconfig.Config, error) {
	c, err := r.Asked.Config()
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return c, nil
}

// ESPID returns the id of the ESP's device, or "".
func ESPID(s *hostconfig.Storage) string {
	for i := range s.Filesystems {
		if f := &s.Filesystems[i]; f.IsESP() {
			return f.DeviceID
		}
	}
	return ""
}

// RootID returns the id of the device with the bytes of the root file system, or "". For a
// verified root that is the data device.
func RootID(s *hostconfig.Storage) string {
	for _, f := range s.Filesystems {
		if f.MountPoint != nil && f.MountPoint.Path == "/" {
			return storage.DataID(s, f.DeviceID)
		}
	}
	return ""
}

// BootID returns the id of the device of the file system with /boot, and the folder of /boot
// in that file system.
func BootID(s *hostconfig.Storage) (id, folder string) {
	for _, f := range s.Filesystems {
		if f.MountPoint != nil && path.Clean(f.MountPoint.Path) == "/boot" {
			return f.DeviceID, "/"
		}
	}
	return RootID(s), "/boot"
}

// Map returns the paths or UUIDs by the IDs of their devices.
func (list Devices) Map() map[string]string {
	out := make(map[string]string, len(list))
	for _, d := range list {
		out[d.ID] = d.Path
	}
	return out
}

// DevicesOf returns the devices of a map, sorted by their IDs.
func DevicesOf(m map[string]string) Devices {
	out := make(Devices, 0, len(m))
	for id, p := range m {
		out = append(out, Device{id, p})
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Path returns the path of a device of the configuration c, in the slot of the operation.
func (r *Record) Path(c *hostconfig.Config, id string) (string, error) {
	return storage.Device(&c.Spec().Storage, r.Paths.Map(), r.Slot, id)
}

// OtherPath returns the path of a device of the configuration c in the other slot.
func (r *Record) OtherPath(c *hostconfig.Config, id string) (string, error) {
	return storage.Device(&c.Spec().Storage, r.Paths.Map(), r.Slot.Other(), id)
}

// Run is an operation on slots that runs its steps.
type Run = operation.Run[Record]

// Configured returns a Do or an Undo that calls do with the configuration of the record.
func Configured(do func(context.Context, *Run, *hostconfig.Config) error) func(context.Context, *Run) error {
	return func(ctx context.Context, r *Run) error {
		c, err := r.State.Config()
		if err != nil {
			return err
		}
		return do(ctx, r, c)
	}
}

// Examined has the results of the step "image", or of its rehearsal.
type Examined struct {
	Record *Record
	Config *hostconfig.Config
	Image  *image.Image // open until the end of the step
	Plan   *storage.Plan
	Whole  map[string]bool // files of parts that fill their partitions
	Read   map[string]bool // files of parts that are verified
	Uname  string          // version of the kernel
	// Cmdline is the command line that is sealed in the UKI.
	Cmdline string
}

// HasRebooted reports whether the host has rebooted for the operation; boot is the ID of the
// present boot.
func (r *Record) HasRebooted(boot string) bool { return r.RebootFrom != "" && r.RebootFrom != boot }

// HasSealedKernel reports whether the command line of the kernel is a part of the image's
// signed UKI, so that no setting can change it.
func (r *Record) HasSealedKernel() bool { return r.Bootloader != image.GRUB }

// RootIsPair reports whether the root file system is an A/B volume.
func RootIsPair(s *hostconfig.Storage) bool {
	_, pair := storage.Pairs(s)[RootID(s)]
	return pair
}
