package md

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

// Superblock is what a member says of its array: the superblock of version 1 in
// linux/raid/md_p.h.
type Superblock struct {
	Minor  int  // of the version: 0 for 1.0
	Array  UUID // set_uuid
	Device UUID // of this member; a clone of a member has the same
	Name   string
	Level  Level
	Slots  int
	Role   int // the slot of this member, or one of the roles below
	Events uint64
	// Recovering: the member is not in sync yet.
	Recovering bool
}

// The roles of a member without a slot.
const (
	RoleSpare   = -1
	RoleFaulty  = -2
	RoleJournal = -3
)

// Fields of a superblock, by their offsets in bytes.
const (
	atMagic    = 0
	atMajor    = 4
	atFeatures = 8
	atArray    = 16
	atName     = 32
	atLevel    = 72
	atSlots    = 92
	atOffset   = 144 // the sector of the superblock itself
	atNumber   = 160 // the index of this member in the roles
	atDevice   = 168
	atEvents   = 200
	atSum      = 216
	atMaxRoles = 220
	atRoles    = 256

	nameSize       = 32
	magic          = 0xa92b4efc
	recoveryOffset = 2 // a feature: the member is being rebuilt
	superblockSize = 4096
	maxRoles       = (superblockSize - atRoles) / 2
	sectorSize     = 512
)

// levels are the levels by their numbers in a superblock.
var levels = map[int32]Level{0: RAID0, 1: RAID1, 4: RAID4, 5: RAID5, 6: RAID6, 10: RAID10}

// Examine reads the superblock of a member of size bytes. It returns an error of kind
// NotFound if r has none of version 1, and of kind Corrupt if r has only damaged ones.
func Examine(r io.ReaderAt, size int64) (Superblock, error) {
	var damage error
	for minor, at := range blockdev.RAIDPlaces(size) {
		if at < 0 {
			continue
		}
		var b [superblockSize]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return Superblock{}, fmt.Errorf("read RAID superblock: %w", err)
		}
		if binary.LittleEndian.Uint32(b[atMagic:]) != magic {
			continue
		}
		s, err := decode(b[:], at)
		if err == nil {
			s.Minor = minor
			return s, nil
		}
		damage = err
	}
	if damage != nil {
		return Superblock{}, errkind.Errorf(errkind.Corrupt, "read RAID superblock: %w", damage)
	}
	return Superblock{}, errkind.Errorf(errkind.NotFound, "the device has no RAID superblock")
}

func decode(b []byte, at int64) (Superblock, error) {
	le := binary.LittleEndian
	roles := le.Uint32(b[atMaxRoles:])
	switch {
	case le.Uint32(b[atMajor:]) != 1:
		return Superblock{}, fmt.Errorf("its version is %d, not 1", le.Uint32(b[atMajor:]))
	case le.Uint64(b[atOffset:]) != uint64(at/sectorSize):
		return Superblock{}, fmt.Errorf("it belongs in sector %d, and is in %d", le.Uint64(b[atOffset:]), at/sectorSize)
	case roles > maxRoles:
		return Superblock{}, fmt.Errorf("it has %d roles, more than the %d that fit", roles, maxRoles)
	case le.Uint32(b[atSum:]) != checksum(b[:atRoles+2*roles]):
		return Superblock{}, fmt.Errorf("its checksum does not match its content")
	}
	s := Superblock{
		Array: UUID(b[atArray:]), Device: UUID(b[atDevice:]), Level: levels[int32(le.Uint32(b[atLevel:]))],
		Slots: int(le.Uint32(b[atSlots:])), Events: le.Uint64(b[atEvents:]), Role: RoleSpare,
		Recovering: le.Uint32(b[atFeatures:])&recoveryOffset != 0,
	}
	name, _, _ := strings.Cut(string(b[atName:atName+nameSize]), "\x00")
	s.Name = withoutHost(name)
	if s.Slots > maxRoles {
		return Superblock{}, fmt.Errorf("it has %d slots, more than the %d that are possible", s.Slots, maxRoles)
	}
	if n := le.Uint32(b[atNumber:]); n < roles {
		s.Role = role(le.Uint16(b[atRoles+2*n:]))
	}
	return s, nil
}

func role(n uint16) int {
	switch {
	case n == 0xfffe:
		return RoleFaulty
	case n == 0xfffd:
		return RoleJournal
	case n >= maxRoles:
		return RoleSpare
	}
	return int(n)
}

// withoutHost returns the name of an array without its homehost.
func withoutHost(name string) string {
	if _, rest, ok := strings.Cut(name, ":"); ok {
		return rest
	}
	return name
}

// checksum returns the checksum of a superblock (calc_sb_1_csum in drivers/md/md.c), without
// the field that has it. b is the superblock with its roles.
func checksum(b []byte) uint32 {
	var sum uint64
	for i := 0; i+4 <= len(b); i += 4 {
		if i != atSum {
			sum += uint64(binary.LittleEndian.Uint32(b[i:]))
		}
	}
	if len(b)%4 == 2 {
		sum += uint64(binary.LittleEndian.Uint16(b[len(b)-2:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

// String returns the UUID as mdadm(8) writes it.
func (u UUID) String() string {
	return fmt.Sprintf("%x:%x:%x:%x", u[:4], u[4:8], u[8:12], u[12:])
}
