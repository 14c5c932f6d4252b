package image

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/verity"
)

// The index of the frames of a file is the seek table of the zstd seekable format
// (github.com/facebook/zstd, contrib/seekable_format/zstd_seekable_compression_format.md,
// version 0.1.1): a skippable frame at the end, with the sizes of all frames before it.
// Readers that do not know it skip it.
const (
	indexMagic       = 0x184d2a5e
	indexFooterMagic = 0x8f92eab1
	indexHeaderSize  = 8 // magic number and size of a skippable frame
	indexFooterSize  = 9
	indexEntrySize   = 8
	indexChecksums   = 1 << 7 // in the descriptor: 4 more bytes in each entry
	indexReserved    = 0x7c   // in the descriptor: must be zero

	// maxIndexed is the largest frame, in bytes of the partition, of a file with an index. An
	// update decodes whole frames in memory.
	maxIndexed = 4 << 20
	// frameMargin is by how much a frame may be larger than its content, in bytes.
	frameMargin = maxIndexed/256 + 64
)

// frameSizes are the sizes of one frame in bytes.
type frameSizes struct{ packed, unpacked int64 }

// appendIndex appends the index of frames to out.
func appendIndex(out []byte, frames []frameSizes) []byte {
	le := binary.LittleEndian
	out = le.AppendUint32(out, indexMagic)
	out = le.AppendUint32(out, uint32(len(frames)*indexEntrySize+indexFooterSize))
	for _, f := range frames {
		out = le.AppendUint32(out, uint32(f.packed))
		out = le.AppendUint32(out, uint32(f.unpacked))
	}
	out = le.AppendUint32(out, uint32(len(frames)))
	return le.AppendUint32(append(out, 0), indexFooterMagic)
}

// placedFrame is a frame with its places in the file and in the partition, in bytes.
type placedFrame struct {
	frameSizes
	off, at int64
}

// index reads the index of the frames of the file. It fails with kind Unsupported if the file
// has none, or one with frames that an update by blocks cannot use; the error names the reason.
func (p Partition) index(ctx context.Context) ([]placedFrame, error) {
	table, entry, err := p.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	frames := make([]placedFrame, 0, len(table)/entry)
	var off, at int64
	for ; len(table) > 0; table = table[entry:] {
		s := frameSizes{int64(binary.LittleEndian.Uint32(table)), int64(binary.LittleEndian.Uint32(table[4:]))}
		if s.unpacked > maxIndexed || s.unpacked > 0 && s.packed > s.unpacked+frameMargin {
			return nil, errkind.Errorf(errkind.Unsupported, "%s has a zstd frame of %d bytes for %d bytes; frames of at most %d bytes can be fetched one by one", p.File.Path, s.packed, s.unpacked, maxIndexed)
		}
		if s.unpacked%verity.BlockSize != 0 {
			return nil, errkind.Errorf(errkind.Unsupported, "%s has a zstd frame of %d bytes, which are not whole blocks of %d bytes", p.File.Path, s.unpacked, verity.BlockSize)
		}
		if s.unpacked > 0 { // else it is a skippable frame
			frames = append(frames, placedFrame{s, off, at})
		}
		off, at = off+s.packed, at+s.unpacked
	}
	if rest := p.File.Compressed - off; rest < indexHeaderSize || at != p.File.Size {
		return nil, errkind.Errorf(errkind.Unsupported, "the index of %s is for other frames: it has %d bytes for %d bytes, and the file %d for %d", p.File.Path, off, at, p.File.Compressed, p.File.Size)
	}
	return frames, nil
}

// readIndex returns the entries of the index, and the size of each in bytes.
func (p Partition) readIndex(ctx context.Context) (table []byte, entry int, err error) {
	none := func() ([]byte, int, error) {
		return nil, 0, errkind.Errorf(errkind.Unsupported, "%s has no index of its zstd frames", p.File.Path)
	}
	end := p.File.Compressed
	if end < indexHeaderSize+indexFooterSize {
		return none()
	}
	footer := make([]byte, indexFooterSize)
	if err := p.readFile(ctx, footer, end-indexFooterSize); err != nil {
		return nil, 0, err
	}
	count, descriptor := int64(binary.LittleEndian.Uint32(footer)), footer[4]
	if binary.LittleEndian.Uint32(footer[5:]) != indexFooterMagic || descriptor&indexReserved != 0 {
		return none()
	}
	if entry = indexEntrySize; descriptor&indexChecksums != 0 {
		entry += 4
	}
	size := indexHeaderSize + count*int64(entry) + indexFooterSize
	if count > p.File.Size/verity.BlockSize+maxSkipped || size > end {
		return nil, 0, errkind.Errorf(errkind.Unsupported, "the index of %s has %d frames, too many for the file", p.File.Path, count)
	}
	table = make([]byte, size-indexFooterSize)
	if err := p.readFile(ctx, table, end-size); err != nil {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(table) != indexMagic || int64(binary.LittleEndian.Uint32(table[4:])) != size-indexHeaderSize {
		return none()
	}
	return table[indexHeaderSize:], entry, nil
}

// readFile reads bytes of the compressed file from byte off on.
func (p Partition) readFile(ctx context.Context, b []byte, off int64) error {
	if _, err := p.image.src.ReadAt(ctx, b, p.off+off); err != nil {
		return fmt.Errorf("read %s: %w", p.File.Path, err)
	}
	return nil
}
