package blockdev

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// Inventory has the disks of a host at one moment, sorted by name.
type Inventory struct {
	Disks []Disk `json:"disks"`
	// Others are the block devices that a person may take for disks.
	Others []Other `json:"others,omitempty"`
}

// Other is a block device that is not a disk to install to: a device over other devices,
// memory, or a drive without a medium.
type Other struct {
	Name  string   `json:"name"` // dm-0
	Path  string   `json:"path"` // /dev/dm-0
	Links []string `json:"links,omitempty"`
	Is    string   `json:"is"`             // what it is: "a multipath device"
	Over  []string `json:"over,omitempty"` // the devices that it rests on: sda, sdb
	Size  int64    `json:"size,omitempty"` // 0 for an array that does not run

	// Label is the name that its maker gave it: that of an array without its homehost, or
	// that below /dev/mapper. UUID is that of an array or of a LUKS header, as blkid(8)
	// writes it, if it is known. Level is that of an array: raid1.
	Label string `json:"label,omitempty"`
	UUID  string `json:"uuid,omitempty"`
	Level string `json:"level,omitempty"`

	Content Content `json:"content,omitzero"`
	Use     Use     `json:"use,omitzero"`
}

// Values of Other.Is.
const (
	Multipath = "a multipath device" // a disk that the host reaches by several paths
	Array     = "a RAID array"
	Encrypted = "an encrypted volume"
	Verified  = "a dm-verity device"
)

// HashTree is the type of content that is a dm-verity hash tree, as blkid(8) calls it.
const HashTree = "DM_verity_hash"

// The tables that a Disk can have.
const (
	TableNone = ""
	TableGPT  = "gpt"
	TableDOS  = "dos"
)

// Disk is one disk. Sizes and offsets are in bytes.
type Disk struct {
	Name       string      `json:"name"` // sda
	Path       string      `json:"path"` // /dev/sda
	Links      []string    `json:"links,omitempty"`
	Size       int64       `json:"size"`
	SectorSize int64       `json:"sectorSize"`
	Model      string      `json:"model,omitempty"`
	Serial     string      `json:"serial,omitempty"`
	Removable  bool        `json:"removable,omitempty"`
	ReadOnly   bool        `json:"readOnly,omitempty"`
	Table      string      `json:"table,omitempty"`
	TableID    string      `json:"tableId,omitempty"`
	Problem    string      `json:"problem,omitempty"` // why its content is not known, or what is wrong with its table
	Content    Content     `json:"content,omitzero"`  // of a disk without a table
	Leftover   Content     `json:"leftover,omitzero"` // of a former use of the disk as a whole, beside its table
	Use        Use         `json:"use,omitzero"`      // of the disk as a whole
	Partitions []Partition `json:"partitions,omitempty"`

	GPT *gpt.Disk `json:"-"` // with Table gpt
}

// Partition is one partition of a disk. Type, UUID and Label are those of the
// GPT; Content has those of the file system.
type Partition struct {
	Number  int      `json:"number"`
	Name    string   `json:"name"` // sda1
	Path    string   `json:"path"` // /dev/sda1
	Links   []string `json:"links,omitempty"`
	Offset  int64    `json:"offset"`
	Size    int64    `json:"size"`
	Type    string   `json:"type,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	Label   string   `json:"label,omitempty"`
	Content Content  `json:"content,omitzero"`
	Use     Use      `json:"use,omitzero"`
}

// Use says how the host uses a device, directly or through devices above it.
type Use struct {
	Mounts  []string `json:"mounts,omitempty"`
	Swap    bool     `json:"swap,omitempty"`
	Holders []string `json:"holders,omitempty"` // dm-0, md127
}

// InUse reports whether the device is in use.
func (u Use) InUse() bool { return u.Swap || len(u.Mounts)+len(u.Holders) > 0 }

// IsRoot reports whether the host runs from the device, directly or through devices above it.
func (u Use) IsRoot() bool { return slices.Contains(u.Mounts, "/") }

// String returns a text for people: "mounted at /, held by dm-0".
func (u Use) String() string {
	var out []string
	if len(u.Mounts) > 0 {
		out = append(out, "mounted at "+strings.Join(u.Mounts, " and "))
	}
	if u.Swap {
		out = append(out, "used as swap")
	}
	if len(u.Holders) > 0 {
		out = append(out, "held by "+strings.Join(u.Holders, " and "))
	}
	return strings.Join(out, ", ")
}

// Find returns the disk with that device file, or with a link of that path to it.
func (inv *Inventory) Find(device string) (*Disk, bool) {
	device = path.Clean(device)
	for i := range inv.Disks {
		if d := &inv.Disks[i]; d.Path == device || slices.Contains(d.Links, device) {
			return d, true
		}
	}
	return nil, false
}

// Partition returns the partition with that device file, or with a link of that path to it.
func (inv *Inventory) Partition(device string) (*Partition, bool) {
	device = path.Clean(device)
	for i := range inv.Disks {
		for j := range inv.Disks[i].Partitions {
			if p := &inv.Disks[i].Partitions[j]; p.Path == device || slices.Contains(p.Links, device) {
				return p, true
			}
		}
	}
	return nil, false
}

// Other returns the device of inv.Others with that device file, or with a link of that path
// to it.
func (inv *Inventory) Other(device string) (*Other, bool) {
	device = path.Clean(device)
	for i := range inv.Others {
		if o := &inv.Others[i]; o.Path == device || slices.Contains(o.Links, device) {
			return o, true
		}
	}
	return nil, false
}

// A Node is a partition or a device over other devices: what can have a file system.
type Node struct {
	Path    string
	Size    int64
	Content Content
	Use     Use
}

// Root returns the device file with the root file system of the host: the uppermost device,
// and the data partition below a dm-verity device. It returns "" if no device has it.
func (inv *Inventory) Root() string {
	for _, o := range inv.Others {
		if o.Use.IsRoot() && o.Is != Verified && len(o.Use.Holders) == 0 {
			return o.Path
		}
	}
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			if p.Use.IsRoot() && p.Content.Type != HashTree {
				return p.Path
			}
		}
	}
	return ""
}

// Node returns the partition, or the device of inv.Others, with that device file, or with a
// link of that path to it.
func (inv *Inventory) Node(device string) (Node, bool) {
	if p, ok := inv.Partition(device); ok {
		return p.node(), true
	}
	if o, ok := inv.Other(device); ok {
		return o.node(), true
	}
	return Node{}, false
}

// Nodes returns all partitions, and all devices of inv.Others.
func (inv *Inventory) Nodes() []Node {
	var out []Node
	for _, d := range inv.Disks {
		for _, p := range d.Partitions {
			out = append(out, p.node())
		}
	}
	for _, o := range inv.Others {
		out = append(out, o.node())
	}
	return out
}

func (p *Partition) node() Node { return Node{p.Path, p.Size, p.Content, p.Use} }
func (o *Other) node() Node     { return Node{o.Path, o.Size, o.Content, o.Use} }

// Bottom returns the names of the disks and partitions that the device with that name
// rests on, through all devices between, sorted. A disk or partition rests on itself.
func (inv *Inventory) Bottom(name string) []string {
	var out []string
	var walk func(name string, depth int)
	walk = func(name string, depth int) {
		i := slices.IndexFunc(inv.Others, func(o Other) bool { return o.Name == name })
		if i < 0 {
			out = append(out, name)
			return
		}
		for _, below := range inv.Others[i].Over {
			if depth < maxDepth {
				walk(below, depth+1)
			}
		}
	}
	walk(name, 0)
	slices.Sort(out)
	return slices.Compact(out)
}

const (
	maxDisks    = 1024
	sysfsSector = 512 // the unit of sysfs, whatever the sectors of the disk
)

// Read lists the disks of the host with the root folder root, from its /sys, /proc and
// /dev. A disk that Read cannot read has a Problem.
func Read(root string) (*Inventory, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	defer dir.Close()
	h := host{dir}
	uses, err := h.uses()
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	links, err := h.links()
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	names, err := h.list("sys/block")
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	inv := &Inventory{}
	for _, name := range names {
		if !isDisk(name) || h.number("sys/block/"+name+"/size") <= 0 {
			if len(inv.Others) < maxDisks {
				inv.Others = append(inv.Others, h.other(name, uses, links))
			}
			continue
		}
		if len(inv.Disks) == maxDisks {
			return nil, errkind.Errorf(errkind.TooLarge, "list disks: there are more than %d", maxDisks)
		}
		inv.Disks = append(inv.Disks, h.disk(name, uses, links))
	}
	slices.SortFunc(inv.Disks, func(a, b Disk) int { return cmp.Compare(a.Name, b.Name) })
	return inv, nil
}

// isDisk reports whether the block device can be a disk to install to: not memory, not a
// device on other devices.
func isDisk(name string) bool {
	for _, prefix := range []string{"ram", "zram", "sr", "fd", "dm-", "md"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && strings.Trim(rest, "0123456789") == "" {
			return false
		}
	}
	return true
}

// PartitionName returns the kernel's name of a partition of a disk.
func PartitionName(disk string, number int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(number)
}
