// Package md creates, reads and changes arrays of Linux software RAID (md(4)). It reads
// superblocks and /sys itself, and has mdadm(8) only create an array and add a member.
//
// Every array has a superblock of version 1.0, at the end of each member: firmware and
// boot loaders see a member of a mirror as a plain file system. Its homehost is "any", so
// that an initrd assembles the array, also degraded, on whatever host it is.
package md

import (
	"context"
	"strings"
)

// UUID identifies an array (set_uuid of its superblocks), or a member in it.
type UUID [16]byte

// Level says how an array distributes data.
type Level string

// The levels, by their names in /sys and mdadm(8).
const (
	RAID0  Level = "raid0"
	RAID1  Level = "raid1"
	RAID4  Level = "raid4"
	RAID5  Level = "raid5"
	RAID6  Level = "raid6"
	RAID10 Level = "raid10"
)

// Array is an array to create.
type Array struct {
	Name    string // below /dev/md
	Level   Level
	UUID    UUID
	Members []string // device files
}

// Chunk is the unit, in bytes, in which a level other than RAID 1 distributes data. It is the
// default of mdadm(8), named so that no other version makes an array of another size. RAID 10
// has two near copies of each chunk (layout n2).
const Chunk = 512 << 10

// Folder has the devices of arrays, by their names.
const Folder = "/dev/md/"

// Device returns the path that udev gives the array.
func (a Array) Device() string { return Folder + a.Name }

// MaxName is the most bytes that the name of an array may have. A superblock has 32 bytes for
// the homehost "any:", the name and a zero. mdadm(8) leaves out a homehost that does not fit,
// and then an initrd does not start the array when it is degraded.
const MaxName = nameSize - 1 - len("any:")

// IsName reports whether mdadm(8) accepts the name of an array, since version 4.3: a file name of
// POSIX, section 3.265, of at most MaxName bytes that does not begin with a dot or a hyphen.
func IsName(name string) bool {
	const first = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	return name != "" && len(name) <= MaxName && strings.Trim(name, first+".-") == "" && strings.Contains(first, name[:1])
}

// A Manager changes the arrays of a host. Host is the real one; package mdtest has one in
// memory, and the suite for both.
type Manager interface {
	// Create creates and starts the array and waits for its device. It overwrites what the
	// members contain. It may be called again after a failure or a power cut: an array
	// with the same UUID, whole or half made, is stopped and made again.
	Create(ctx context.Context, a Array) error
	// Stop stops a running array, by its UUID. It does nothing if no array has that UUID.
	Stop(ctx context.Context, id UUID) error
	// Arrays returns the running arrays of the host.
	Arrays(ctx context.Context) ([]State, error)
	// Add adds a device to a running array, which then rebuilds onto it. It does nothing if the
	// device is a member already.
	Add(ctx context.Context, id UUID, device string) error
	// Remove removes a failed or missing member. It does nothing if the device is not a member.
	Remove(ctx context.Context, id UUID, device string) error
}

// A Checker compares the members of arrays. Host and the arrays of mdtest are Checkers.
type Checker interface {
	// Check reads all members of a running array that is idle, and returns how many bytes
	// differ between them. It changes no data. The kernel goes on with the comparison if
	// ctx ends.
	Check(ctx context.Context, id UUID) (differ int64, err error)
}

// State is a running array.
type State struct {
	Kernel  string // md127
	UUID    UUID
	Name    string // without its homehost
	Level   Level
	Slots   int // how many members the array is to have
	Missing int // how many of them do not serve data in sync
	Members []Member
	// ReadOnly is set if the kernel refuses to write the array: after a fault it has not the
	// members for that, or a person has made it read-only.
	ReadOnly bool
	// Action is what the array is doing: idle, resync, recover, check or repair. Done and
	// Total are its progress in bytes.
	Action      string
	Done, Total int64
}

// Least returns how many members have to be in sync, at least, for the array to have all of its
// data. For RAID 10 that depends on which members are: with fewer, data is lost.
func (s State) Least() int {
	switch s.Level {
	case RAID1:
		return 1
	case RAID4, RAID5:
		return s.Slots - 1
	case RAID6:
		return s.Slots - 2
	case RAID10: // with two copies, as Trident makes it
		return (s.Slots + 1) / 2
	}
	return s.Slots
}

// Member is a device of an array.
type Member struct {
	Device string // /dev/sda1
	Slot   int    // -1: none
	InSync bool
	Faulty bool
}
