package mdtest

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/linux/md"
)

// Size is the size in bytes of what Encode returns.
const Size = 4096

// Place returns the offset of the superblock of version 1.0 on a device of that size.
func Place(size int64) int64 { return (size/512 - 16) &^ 7 * 512 }

// Encode returns the superblock of version 1.0 that s describes, for a device of size bytes,
// as mdadm(8) writes it; roles are the slots of all members, by their numbers, and s is of
// member number.
func Encode(s md.Superblock, size int64, number int, roles []int) []byte {
	const room = 256 // of the roles
	le := binary.LittleEndian
	b := make([]byte, Size)
	le.PutUint32(b, 0xa92b4efc)
	le.PutUint32(b[4:], 1)
	if s.Recovering {
		le.PutUint32(b[8:], 2)
	}
	copy(b[16:], s.Array[:])
	copy(b[32:64], "any:"+s.Name)
	le.PutUint64(b[64:], 1<<30) // ctime
	levels := map[md.Level]uint32{md.RAID0: 0, md.RAID1: 1, md.RAID4: 4, md.RAID5: 5, md.RAID6: 6, md.RAID10: 10}
	le.PutUint32(b[72:], levels[s.Level])
	if s.Level == md.RAID10 {
		le.PutUint32(b[76:], 0x102) // two near copies
	}
	at := uint64(Place(size) / 512)
	data := at &^ 2047
	le.PutUint64(b[80:], data)
	if s.Level != md.RAID1 {
		le.PutUint32(b[88:], 1024) // sectors in a chunk
	}
	le.PutUint32(b[92:], uint32(s.Slots))
	le.PutUint64(b[136:], at)
	le.PutUint64(b[144:], at)
	le.PutUint32(b[160:], uint32(number))
	copy(b[168:], s.Device[:])
	le.PutUint64(b[192:], 1<<30) // utime
	le.PutUint64(b[200:], s.Events)
	le.PutUint64(b[208:], ^uint64(0)) // all of it is in sync
	le.PutUint32(b[220:], room/2)
	for i := range room / 2 {
		role := uint16(0xffff)
		if i < len(roles) && roles[i] >= 0 {
			role = uint16(roles[i])
		} else if i < len(roles) && roles[i] == md.RoleFaulty {
			role = 0xfffe
		}
		le.PutUint16(b[256+2*i:], role)
	}
	var sum uint64
	for i := 0; i < 256+room; i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	return b
}

// write makes a device of size bytes the member number of an array.
func write(w io.WriterAt, size int64, s md.Superblock, number int, roles []int) error {
	_, err := w.WriteAt(Encode(s, size, number, slices.Clone(roles)), Place(size))
	return err
}
