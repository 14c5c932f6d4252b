// Package pclusters reads the compressed files of an erofs, which package erofs of go-erofs
// only lists. The on-disk format is that of Linux, fs/erofs/erofs_fs.h: the kernel's
// Documentation/filesystems/erofs.rst describes it.
//
// A compressed file is a row of extents. Each extent is a physical cluster ("pcluster"), some
// blocks in the image that unpack to a range of the file. An index has one entry for each
// logical cluster ("lcluster") of the file, 4 KiB: either an extent begins in it (a head), or
// it continues the extent of an earlier one.
//
// The package reads what mkfs.erofs makes with LZ4, DEFLATE and zstd. It refuses, with
// errkind.Unsupported, LZMA and the options that pack the ends of files together (fragments,
// ztailpacking); the kernel reads those. The bytes may be hostile: a call neither panics nor
// needs more memory than two extents of the largest size.
package pclusters

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/trident-project/trident/internal/errkind"
)

// Volume is the erofs in an image.
type Volume struct {
	r         io.ReaderAt
	blockBits uint
	meta      int64 // offset of the inode 0
}

// Fields of the superblock, from its beginning.
const (
	superblock   = 1024
	sbMagic      = 0
	sbBlockBits  = 12
	sbMeta       = 40
	sbIncompat   = 80
	sbAlgorithms = 84
	sbSize       = 128
	magic        = 0xe0f5e1e2
	minBlockBits = 9
	maxBlockBits = 16
)

// Features of a file system without which nobody can read it.
const (
	paddedFront    = 0x01 // a pcluster has its zeros before the data
	hasAlgorithms  = 0x02 // the superblock lists the algorithms
	packsFileEnds  = 0x10 // ztailpacking
	packsFragments = 0x20 // fragments, or pclusters that files share
)

// Open reads the superblock of an erofs that has compressed files. It fails with
// errkind.Unsupported if the package may not read one of them.
func Open(r io.ReaderAt) (*Volume, error) {
	sb := make([]byte, sbSize)
	if err := readFull(r, sb, superblock); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	bits, features := uint(sb[sbBlockBits]), le.Uint32(sb[sbIncompat:])
	switch {
	case le.Uint32(sb[sbMagic:]) != magic || bits < minBlockBits || bits > maxBlockBits:
		return nil, corrupt("the superblock has impossible values")
	case features&paddedFront == 0:
		return nil, errkind.Errorf(errkind.Unsupported, "the form of compression before Linux 5.4 is not read")
	case features&(packsFileEnds|packsFragments) != 0:
		return nil, errkind.Errorf(errkind.Unsupported, "compression with fragments, dedupe or ztailpacking is not read")
	case features&hasAlgorithms != 0 && le.Uint16(sb[sbAlgorithms:])&^(1<<lz4|1<<deflate|1<<zstds) != 0:
		return nil, errkind.Errorf(errkind.Unsupported, "only compression with LZ4, DEFLATE or zstd is read")
	}
	return &Volume{r: r, blockBits: bits, meta: int64(le.Uint32(sb[sbMeta:])) << bits}, nil
}

// readFull reads all of b. It fails with errkind.Corrupt if the image ends before.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt("the file system ends before byte %d", at+int64(len(b)))
	}
	return err
}

func corrupt(format string, args ...any) error {
	return errkind.Errorf(errkind.Corrupt, format, args...)
}
