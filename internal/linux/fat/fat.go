// Package fat reads the file system of EFI system partitions (UEFI 2.11, section
// 13.3; Microsoft's FAT specification 1.03) as an fs.FS. It never writes.
//
// A builder of images reads the ESP with this package to find what boots, without root,
// a mount or other tools. A volume that the package cannot read is an error of kind
// Corrupt. A chain of clusters that loops is cut at the number of clusters of the volume,
// without an error.
package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxDir  = 2 << 20 // bytes; the largest folder of the specification
	maxPath = 64      // names in a path
)

// volume is a FAT file system. Names are compared without their case.
type volume struct {
	r        io.ReaderAt
	bits     int   // of an entry of the table: 12, 16 or 32
	table    int64 // offset
	cluster  int64 // size
	data     int64 // offset of cluster 2
	clusters uint32
	root     entry
	rootOff  int64 // with 12 and 16 bits
	rootSize int64
}

// Open opens a file system on size bytes; it reads only the boot sector. Files implement
// io.ReaderAt and have no times.
func Open(r io.ReaderAt, size int64) (fs.FS, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read FAT: %w", err)
	}
	v, err := parse(b, size)
	if err != nil {
		return nil, fmt.Errorf("read FAT: %w", err)
	}
	v.r = r
	return v, nil
}

// Room returns the free bytes of a file system on size bytes, and the size of its clusters.
func Room(r io.ReaderAt, size int64) (free, cluster int64, err error) {
	fsys, err := Open(r, size)
	if err != nil {
		return 0, 0, err
	}
	v := fsys.(*volume)
	v.r = io.NewSectionReader(r, 0, size)
	// One read of the whole table, not one of the device for each entry.
	table := make([]byte, (int64(v.clusters)+2)*int64(v.bits)/8+2)
	if n, err := v.r.ReadAt(table, v.table); n < len(table)-2 {
		return 0, 0, fmt.Errorf("read FAT: read table: %w", err)
	}
	v.r, v.table = bytes.NewReader(append(table, 0, 0)), 0
	for n := range v.clusters {
		value, _, err := v.next(n + 2)
		if err != nil {
			return 0, 0, fmt.Errorf("read FAT: %w", err)
		}
		if value == 0 {
			free += v.cluster
		}
	}
	return free, v.cluster, nil
}

func parse(b []byte, size int64) (*volume, error) {
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(b[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	either := func(short, long int64) int64 {
		if short != 0 {
			return short
		}
		return long
	}
	sector, perCluster, tables := u16(11), int64(b[13]), int64(b[16])
	if b[510] != 0x55 || b[511] != 0xaa || !powerOf2(sector) || sector < 512 || sector > 4096 || !powerOf2(perCluster) || tables == 0 {
		return nil, errkind.Errorf(errkind.Corrupt, "it is not a FAT file system")
	}
	v := &volume{table: u16(14) * sector, cluster: sector * perCluster, root: entry{dir: true, name: "."}}
	tableSize := either(u16(22), u32(36)) * sector
	v.rootOff, v.rootSize = v.table+tables*tableSize, u16(17)*32
	v.data = v.rootOff + (v.rootSize+sector-1)/sector*sector
	total := either(u16(19), u32(32)) * sector
	if v.table == 0 || total > size || v.data > total {
		return nil, errkind.Errorf(errkind.Corrupt, "its regions do not fit into %d bytes", size)
	}
	count := (total - v.data) / v.cluster
	switch {
	case u16(22) == 0:
		v.bits, v.root.first, v.rootSize = 32, uint32(u32(44)), 0
	case count < 4085:
		v.bits = 12
	default:
		v.bits = 16
	}
	if count > 1<<28 || (count+2)*int64(v.bits)/8 > tableSize {
		return nil, errkind.Errorf(errkind.Corrupt, "its table is too short for %d clusters", count)
	}
	v.clusters = uint32(count)
	return v, nil
}

func powerOf2(n int64) bool { return n > 0 && n&(n-1) == 0 }

// next returns the cluster after n; false if n is the last.
func (v *volume) next(n uint32) (uint32, bool, error) {
	var b [4]byte
	at := v.table + int64(n)*int64(v.bits)/8
	if _, err := v.r.ReadAt(b[:max(2, v.bits/8)], at); err != nil {
		return 0, false, fmt.Errorf("read table: %w", err)
	}
	value, end := binary.LittleEndian.Uint32(b[:])&0x0fffffff, uint32(0x0ffffff8)
	switch v.bits {
	case 16:
		value, end = value&0xffff, 0xfff8
	case 12:
		value, end = value&0xffff>>(4*(n&1))&0xfff, 0xff8
	}
	return value, value < end, nil
}

// chain returns the clusters of a file from its first, at most most.
func (v *volume) chain(first uint32, most int64) ([]uint32, error) {
	var out []uint32
	for n, more := first, most > 0; more; {
		if n < 2 || n-2 >= v.clusters {
			return nil, errkind.Errorf(errkind.Corrupt, "the volume has no cluster %d", n)
		}
		out = append(out, n)
		if int64(len(out)) >= min(most, int64(v.clusters)) {
			break
		}
		var err error
		if n, more, err = v.next(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// content returns the bytes of a file or folder. The size of a folder is that of its
// clusters.
func (v *volume) content(e entry) (*io.SectionReader, error) {
	if e.dir && e.first == 0 && v.bits != 32 { // the root, also as ..
		return io.NewSectionReader(v.r, v.rootOff, v.rootSize), nil
	}
	size := e.size
	if e.dir {
		size = maxDir
	}
	list, err := v.chain(e.first, (size+v.cluster-1)/v.cluster)
	if err != nil {
		return nil, err
	}
	have := int64(len(list)) * v.cluster
	if e.dir {
		size = min(size, have)
	}
	if have < size {
		return nil, errkind.Errorf(errkind.Corrupt, "the file has clusters for %d of %d bytes", have, size)
	}
	return io.NewSectionReader(&clusters{v, list}, 0, size), nil
}

// clusters reads the clusters of list as one file.
type clusters struct {
	v    *volume
	list []uint32
}

func (c *clusters) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		i, in := (off+int64(done))/c.v.cluster, (off+int64(done))%c.v.cluster
		if i >= int64(len(c.list)) {
			return done, io.EOF
		}
		n := min(int64(len(p)-done), c.v.cluster-in)
		k, err := c.v.r.ReadAt(p[done:done+int(n)], c.v.data+int64(c.list[i]-2)*c.v.cluster+in)
		if done += k; k < int(n) {
			return done, err
		}
	}
	return done, nil
}

// find returns the entry of a file or folder. Its error is fs.ErrNotExist if there is none.
func (v *volume) find(name string) (entry, error) {
	e := v.root
	if name == "." {
		return e, nil
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxPath {
		return e, fs.ErrNotExist
	}
	for _, part := range parts {
		if !e.dir {
			return e, fs.ErrNotExist
		}
		list, err := v.list(e)
		if err != nil {
			return e, err
		}
		found := false
		for _, c := range list {
			if strings.EqualFold(c.name, part) {
				e, found = c, true
				break
			}
		}
		if !found {
			return e, fs.ErrNotExist
		}
	}
	return e, nil
}
