package image

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	maxWindowLog     = 31 // the largest that zstd's tools write (zstd --long=31)
	defaultWindowLog = 27 // the largest that zstd's tools unpack by default
)

// newDecoder returns a decoder of frames with windows of at most window bytes. It needs
// about as much memory as the window of the frame (measured: 3 MiB for zstd -3, 129 MiB for
// a window of 2^27), and at most twice the window and 8 MiB. It decodes two blocks of 128
// KiB ahead.
func newDecoder(r io.Reader, window int64) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderMaxWindow(uint64(max(window, 1<<10))), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
}

// frames finds the ends of frames in the compressed bytes, because the next frame can be
// unpacked without the previous ones (RFC 8878, section 3). Write gets the bytes in pieces
// of any size. frames finds no ends after bytes that are not zstd, for which the decoder has
// the error, or after a frame without its length.
type frames struct {
	lost    bool // no more ends can be found
	head    []byte
	skip    int64 // bytes to skip
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

// frame reads a frame's header when all of it is in f.head.
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
		f.lost = true // the offsets of later frames are unknown
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

// finishPart begins the next part of the file after the last byte of this one.
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
