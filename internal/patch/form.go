package patch

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// magic begins a delta in a file. Another form gets another last character, so that a reader that
// does not know it refuses the patch.
const magic = "tridelt2"

// deltaWindow is the window of the parts of a delta, in bytes.
const deltaWindow = 8 << 20

// header is the start of a file with a delta. The steps, the three parts of the words and the
// fresh bytes follow, each as a frame of Zstandard (RFC 8878).
type header struct {
	Magic   [len(magic)]byte
	OldHash [sha256.Size]byte
	NewSize uint64
	Parts   [5]uint64 // the sizes of the frames
}

// encode writes d, from old to an image of size bytes, to w.
func (d *delta) encode(w io.Writer, old []byte, size int) error {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(deltaWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("begin frame: %w", err)
	}
	h := header{Magic: [len(magic)]byte([]byte(magic)), OldHash: sha256.Sum256(old), NewSize: uint64(size)}
	var frames []byte
	for i, part := range [][]byte{d.steps, d.words.gaps, d.words.choices, d.words.sums, d.fresh} {
		before := len(frames)
		frames = z.EncodeAll(part, frames)
		h.Parts[i] = uint64(len(frames) - before)
	}
	if err := binary.Write(w, binary.LittleEndian, h); err != nil {
		return err
	}
	_, err = w.Write(frames)
	return err
}

// decodeDelta applies a delta from a file.
func decodeDelta(old []byte, r *bufio.Reader, size int64, out io.Writer) error {
	var h header
	if err := binary.Read(r, binary.LittleEndian, &h); err != nil {
		return err
	}
	switch {
	case h.OldHash != sha256.Sum256(old):
		return otherBase(errors.New("it is for an image with another SHA-256"))
	case h.NewSize != uint64(size):
		return errkind.Errorf(errkind.Corrupt, "the patch makes %d bytes, the image has %d", h.NewSize, size)
	}
	var parts [5]*bufio.Reader
	for i, n := range h.Parts {
		if n > uint64(2*size+64<<10) {
			return errkind.Errorf(errkind.Corrupt, "the patch is larger than the image")
		}
		frame, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err == nil && uint64(len(frame)) < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		z, err := zstd.NewReader(bytes.NewReader(frame), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(deltaWindow))
		if err != nil {
			return fmt.Errorf("begin frame: %w", err)
		}
		defer z.Close()
		parts[i] = bufio.NewReaderSize(onlyReader{z}, 64<<10)
	}
	words := &wordReader{gaps: parts[1], choices: parts[2], sums: parts[3], guesser: newGuesser()}
	buffered := bufio.NewWriterSize(onlyWriter{out}, 64<<10)
	err := join(old, parts[0], words, parts[4], size, buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return errkind.Errorf(errkind.Corrupt, "the patch is damaged: %w", asDamage(err))
	}
	return nil
}

// asDamage hides that a part ended early: the file did not.
func asDamage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("a part of it ends early")
	}
	return err
}

// join writes an image of size bytes, of the steps, the words and the fresh bytes of a delta.
func join(old []byte, steps *bufio.Reader, words *wordReader, more io.Reader, size int64, out io.Writer) error {
	from := int64(0)
	// A step of compare covers at least a seed, but for the first and the last.
	for step, left := int64(0), size; left > 0; step++ {
		equal, err := binary.ReadUvarint(steps)
		if err != nil {
			return err
		}
		fresh, err := binary.ReadUvarint(steps)
		if err != nil {
			return err
		}
		move, err := binary.ReadVarint(steps)
		switch {
		case err != nil:
			return err
		case equal > uint64(left) || fresh > uint64(left)-equal || step > size/seed+2:
			return errors.New("its steps make more bytes than the image has")
		case from < 0 || from > int64(len(old)) || equal > uint64(int64(len(old))-from) || move > MaxSize || move < -MaxSize:
			return errors.New("a step leaves the base image")
		}
		if err := words.copyPiece(out, old, from, from+int64(equal), size-left); err != nil {
			return err
		}
		if _, err := io.CopyN(out, more, int64(fresh)); err != nil {
			return err
		}
		from += int64(equal) + move
		left -= int64(equal) + int64(fresh)
	}
	return nil
}

// onlyWriter hides that a writer can read by itself.
type onlyWriter struct{ io.Writer }
