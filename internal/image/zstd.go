package image

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	maxWindowLog     = 31 // the most that the format's tools write (zstd --long=31)
	defaultWindowLog = 27 // what zstd's own tools unpack without being asked
)

// newDecoder unpacks frames with windows of at most so many bytes. It takes about
// as much memory as the window of the frame has (3 MiB in all were measured for
// zstd -3, 129 MiB for a window of 2^27), and never more than twice that and 8 MiB;
// two blocks of 128 KiB are decoded ahead.
func newDecoder(r io.Reader, window int64) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderMaxWindow(uint64(max(window, 1<<10))), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
}

// frames follows the compressed bytes and notes where a frame ends, because the
// next one can be unpacked without it (RFC 8878, section 3). It sees the bytes
// in pieces of any size; on bytes that are no zstd it stops to note, and the
// decoder says what is wrong.
type frames struct {
	lost    bool // something that cannot be followed
	head    []byte
	skip    int64 // bytes to pass over
	state   frameState
	last    bool // the block is the last of its frame
	sum     bool // the frame ends with a checksum
	content int64
	read    int64 // compressed bytes so far
	out     int64 // uncompressed bytes of whole frames
	ended   func(compressed, uncompressed int64)
}

type frameState int

const (
	atFrame frameState = iota
	atBlock
	inSkippable
	inBlock
	inChecksum
)

func (f *frames) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !f.lost {
		if f.skip > 0 {
			k := min(f.skip, int64(len(p)))
			f.skip, f.read, p = f.skip-k, f.read+k, p[k:]
			if f.skip == 0 {
				f.finishPart()
			}
			continue
		}
		f.head = append(f.head, p[0])
		f.read, p = f.read+1, p[1:]
		if f.state == atFrame {
			f.frame()
		} else {
			f.block()
		}
	}
	return n, nil
}

// frame reads a frame's header once it is whole.
func (f *frames) frame() {
	if len(f.head) < 5 {
		return
	}
	magic := binary.LittleEndian.Uint32(f.head)
	if magic&0xfffffff0 == 0x184d2a50 {
		if len(f.head) < 8 {
			return
		}
		f.begin(inSkippable, int64(binary.LittleEndian.Uint32(f.head[4:])))
		return
	}
	if magic != 0xfd2fb528 {
		f.lost = true
		return
	}
	var h zstd.Header
	switch err := h.Decode(f.head); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		f.lost = len(f.head) > 32
		return
	case err != nil || !h.HasFCS || h.FrameContentSize > maxImage:
		f.lost = true // without its size, what comes behind it cannot be placed
		return
	}
	if len(f.head) < h.HeaderSize {
		return
	}
	f.content, f.sum = int64(h.FrameContentSize), h.HasCheckSum
	f.head, f.state = f.head[:0], atBlock
}

func (f *frames) block() {
	if len(f.head) < 3 {
		return
	}
	v := uint32(f.head[0]) | uint32(f.head[1])<<8 | uint32(f.head[2])<<16
	f.last = v&1 == 1
	size := int64(v >> 3)
	switch v >> 1 & 3 {
	case 1: // one byte, repeated
		size = 1
	case 3:
		f.lost = true
		return
	}
	f.begin(inBlock, size)
}

func (f *frames) begin(s frameState, size int64) {
	f.head, f.state, f.skip = f.head[:0], s, size
	if size == 0 {
		f.finishPart()
	}
}

// finishPart goes on to the next part of the file, because all bytes of this one were read.
func (f *frames) finishPart() {
	switch {
	case f.state == inBlock && !f.last:
		f.state = atBlock
	case f.state == inBlock && f.sum:
		f.begin(inChecksum, 4)
	default:
		if f.state != inSkippable {
			f.out += f.content
		}
		f.state = atFrame
		f.ended(f.read, f.out)
	}
}
