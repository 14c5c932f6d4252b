package pclusters

import (
	"encoding/binary"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// File is the content of a compressed file. It keeps the extent that it has read last, so it
// is not safe for concurrent use.
type File struct {
	v     *Volume
	size  int64
	index *index
	heads [2]algorithm // of the two kinds of heads
	// bigPclusters reports for each kind of head whether its pclusters can have several
	// blocks. Blocks that are not compressed count as the second kind.
	bigPclusters [2]bool
	interlaced   bool

	unpackers  unpackers
	last       extent
	lastData   []byte // of last
	packedData []byte // room for a pcluster
}

// Bits of the field advise of the header of an index.
const (
	advise2B         = 0x01 // entries of 14 bits
	adviseBig1       = 0x02
	adviseBig2       = 0x04
	adviseInterlaced = 0x10
	adviseKnown      = advise2B | adviseBig1 | adviseBig2 | adviseInterlaced
)

// Layouts of an inode.
const (
	layoutFull    = 1 // with an index of entries of 8 bytes, which mkfs.erofs makes for old kernels only
	layoutCompact = 3
)

// Compressed reports whether a file with this layout, as package erofs returns it, is for
// File.
func Compressed(layout uint8) bool { return layout == layoutFull || layout == layoutCompact }

// File opens the compressed file with the inode number nid.
func (v *Volume) File(nid uint64) (*File, error) {
	const slot = 32 // bytes of a compact inode
	if nid > 1<<48 {
		return nil, corrupt("impossible inode number %d", nid)
	}
	at := v.meta + int64(nid)*slot
	inode := make([]byte, slot)
	if err := readFull(v.r, inode, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	format := le.Uint16(inode)
	f := &File{v: v, size: int64(le.Uint32(inode[8:]))}
	end := at + slot
	if format&1 != 0 { // an extended inode, of 64 bytes
		f.size, end = int64(le.Uint64(inode[8:])), at+2*slot
	}
	if xattrs := int64(le.Uint16(inode[2:])); xattrs > 0 {
		end += 12 + 4*(xattrs-1)
	}
	layout := uint8(format >> 1 & 7)
	if !Compressed(layout) || f.size < 0 {
		return nil, corrupt("inode %d is not of a compressed file", nid)
	}
	if layout == layoutFull {
		return nil, errkind.Errorf(errkind.Unsupported, "a compressed file with a full index is not read")
	}
	return f, f.readHeader((end + 7) &^ 7)
}

// readHeader reads the header of the index, which begins at byte at.
func (f *File) readHeader(at int64) error {
	h := make([]byte, 8)
	if err := readFull(f.v.r, h, at); err != nil {
		return err
	}
	advise := binary.LittleEndian.Uint16(h[4:])
	if unknown := advise &^ adviseKnown; unknown != 0 || h[7]&0x80 != 0 { // the last bit: the file is a fragment of another one
		return errkind.Errorf(errkind.Unsupported, "a compressed file with the options %#x is not read", unknown)
	}
	f.heads = [2]algorithm{algorithm(h[6] & 15), algorithm(h[6] >> 4)}
	f.bigPclusters = [2]bool{advise&adviseBig1 != 0, advise&adviseBig2 != 0}
	f.interlaced = advise&adviseInterlaced != 0
	bits := f.v.blockBits + uint(h[7]&15)
	big := f.bigPclusters[0] || f.bigPclusters[1]
	var err error
	f.index, err = newIndex(f.v.r, at+8, (f.size-1)>>bits+1, bits, advise&advise2B != 0, big)
	return err
}

// Size returns the size of the file, as its inode says. No content may be behind it.
func (f *File) Size() int64 { return f.size }

// ReadAt reads content. It unpacks the extent of off again if the last call read another one.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errkind.Errorf(errkind.Invalid, "read at the negative offset %d", off)
	}
	for n < len(p) {
		if off >= f.size {
			return n, io.EOF
		}
		if off < f.last.from || off >= f.last.to {
			if err := f.load(off); err != nil {
				return n, err
			}
		}
		read := copy(p[n:], f.lastData[off-f.last.from:])
		n, off = n+read, off+int64(read)
	}
	return n, nil
}
