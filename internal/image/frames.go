package image

import (
	"bufio"
	"errors"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// frameJob is a frame that is decoded.
type frameJob struct {
	packed, content []byte
	done            chan struct{} // closed when content or err is there
	err             error
	isRest          bool // packed is the beginning of the bytes for a sequential decoder
	uses            atomic.Int32
}

// errNotParallel says that a frame must be decoded by a sequential decoder.
var errNotParallel = errors.New("the frame is not decoded beside others")

// read reads one frame into j.packed, and returns the size of its content. It passes over
// skippable frames. It fails with errNotParallel for bytes that a sequential decoder has to judge.
func (j *frameJob) read(in *bufio.Reader) (size int64, err error) {
	var h zstd.Header
	for {
		head, err := in.Peek(zstd.HeaderMaxSize)
		if len(head) == 0 {
			return 0, err
		}
		h = zstd.Header{}
		if h.Decode(head) != nil {
			return 0, errNotParallel
		}
		if !h.Skippable {
			break
		}
		if skip := 8 + int64(h.SkippableSize); skip > int64(in.Size()) {
			return 0, errNotParallel
		} else if _, err := in.Discard(int(skip)); err != nil {
			return 0, unexpected(err)
		}
	}
	if !h.HasFCS || h.FrameContentSize == 0 || h.FrameContentSize > maxParallel {
		return 0, errNotParallel
	}
	size = int64(h.FrameContentSize)
	if err := j.append(in, h.HeaderSize); err != nil {
		return 0, err
	}
	for last := false; !last; {
		at := len(j.packed)
		if err := j.append(in, 3); err != nil {
			return 0, err
		}
		b := j.packed[at:]
		v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		n := int(v >> 3)
		last = v&1 == 1
		switch v >> 1 & 3 {
		case 1:
			n = 1
		case 3:
			return 0, errNotParallel
		}
		if int64(len(j.packed)+n) > size+parallelMargin {
			return 0, errNotParallel
		}
		if err := j.append(in, n); err != nil {
			return 0, err
		}
	}
	if h.HasCheckSum {
		err = j.append(in, 4)
	}
	return size, err
}

// append reads n bytes to the end of j.packed.
func (j *frameJob) append(in io.Reader, n int) error {
	at := len(j.packed)
	if cap(j.packed) < at+n {
		grown := make([]byte, at, max(2*cap(j.packed), at+n, 1<<20))
		copy(grown, j.packed)
		j.packed = grown
	}
	j.packed = j.packed[:at+n]
	_, err := io.ReadFull(in, j.packed[at:])
	return unexpected(err)
}

// unexpected returns err, which is io.ErrUnexpectedEOF if the file ended within a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
