// Package patch makes one image from another with a patch.
//
// [Make] writes a delta, in a form of Trident whose parts are compressed with Zstandard. [Apply]
// reads that form, and patches of zstd(1), for publishers who do not use Trident:
//
//	zstd --patch-from=OLD NEW -o PATCH
//
// For an upgrade of Trident a delta has half the size, because most bytes that differ between
// two builds of a program are addresses.
//
// A patch proves nothing about the image that it makes. The caller compares the image with
// a hash that it trusts.
package patch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// MaxSize is the size of the largest image, old or new, in bytes.
const MaxSize = 1 << 30

const (
	// chunk is how much of an image is handled between two looks at the context.
	chunk = 1 << 20
	// minWindow is the window that a patch of zstd(1) may always need, because zstd(1) names one of
	// 128 MiB for small images too: --long=27.
	minWindow = 128 << 20
)

// Apply makes the image of size bytes from old and patch, and writes it to w from its first
// byte on. It needs memory for the patch, or for one image if the patch is one of zstd(1),
// besides old.
//
// It fails with kind Corrupt if patch is not a patch, is truncated, is for another old image,
// or makes another number of bytes than size; w may then have up to size bytes. It never
// writes more, and reads at most size bytes and a tenth more of patch. An error of w or of
// patch is in the error that it returns.
func Apply(ctx context.Context, old []byte, patch io.Reader, size int64, w io.Writer) error {
	if err := apply(ctx, old, patch, size, w); err != nil {
		return fmt.Errorf("apply patch: %w", err)
	}
	return nil
}

func apply(ctx context.Context, old []byte, patch io.Reader, size int64, w io.Writer) error {
	if size <= 0 || size > MaxSize || len(old) > MaxSize {
		return errkind.Errorf(errkind.TooLarge, "the images have %d and %d bytes, not between 1 and %d", len(old), size, MaxSize)
	}
	in := &input{ctx: ctx, r: patch, rest: size + size/10 + 64<<10}
	head := bufio.NewReaderSize(in, 4<<10)
	out := &output{ctx: ctx, w: w, rest: size}
	decode := decodeFrame
	switch start, _ := head.Peek(len(magic)); {
	case string(start) == magic:
		decode = decodeDelta
	case strings.HasPrefix(string(start), magic[:len(magic)-1]):
		return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "the patch is in a form of another version of Trident"),
			"Make the patch again with this version, or fetch the image without a patch.")
	}
	err := decode(old, head, size, out)
	switch {
	case out.err != nil:
		return out.err
	case in.err != nil:
		return in.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errkind.Errorf(errkind.Corrupt, "the patch is truncated")
	case err != nil:
		return err
	case out.rest > 0:
		return errkind.Errorf(errkind.Corrupt, "the patch makes %d bytes, the image has %d", size-out.rest, size)
	}
	return nil
}

// decodeFrame applies a patch of zstd(1).
func decodeFrame(old []byte, r *bufio.Reader, size int64, out io.Writer) error {
	window := max(minWindow, windowOf(len(old), int(size)))
	if err := checkHeader(r, size, window); err != nil {
		return err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderDictRaw(0, old), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
	if err != nil {
		return fmt.Errorf("begin frame: %w", err)
	}
	defer z.Close()
	_, err = io.CopyBuffer(out, onlyReader{z}, make([]byte, chunk))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = otherBase(err)
	}
	return err
}

// otherBase returns the error for a patch that does not fit the old image.
func otherBase(cause error) error {
	return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "the patch is for another base image, or is damaged: %w", cause),
		"Make the patch again from the image that this host has, or fetch the image without a patch.")
}

// checkHeader fails if the patch at the start of r does not begin with a frame that can make
// an image of size bytes within a window of window bytes. It consumes nothing.
func checkHeader(r *bufio.Reader, size int64, window int) error {
	b, err := r.Peek(zstd.HeaderMaxSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var h zstd.Header
	if err := h.Decode(b); err != nil || h.Skippable {
		return errkind.Errorf(errkind.Corrupt, "the file does not begin with a frame of Zstandard")
	}
	switch {
	case h.HasFCS && h.FrameContentSize != uint64(size):
		return errkind.Errorf(errkind.Corrupt, "the patch makes %d bytes, the image has %d", h.FrameContentSize, size)
	case h.DictionaryID != 0:
		return errkind.Errorf(errkind.Corrupt, "the patch needs the dictionary %d, not an image", h.DictionaryID)
	case h.WindowSize > uint64(window):
		return errkind.Errorf(errkind.Corrupt, "the patch needs a window of %d bytes, more than %d", h.WindowSize, window)
	}
	return nil
}

// Make writes a patch to w that makes the image new from the image old. It needs memory for
// both images, once more for new, and five bytes for each byte of old. progress, which may be
// nil, gets the bytes of new that are done.
func Make(ctx context.Context, old, new []byte, w io.Writer, progress func(done, total int64)) error {
	if len(old) == 0 || len(new) == 0 || len(old) > MaxSize || len(new) > MaxSize {
		return errkind.Errorf(errkind.TooLarge, "make patch: the images have %d and %d bytes, not between 1 and %d", len(old), len(new), MaxSize)
	}
	report := func(done int) {
		if progress != nil {
			progress(int64(done), int64(len(new)))
		}
	}
	d, err := compare(ctx, old, new, report)
	if err == nil {
		err = d.encode(w, old, len(new))
	}
	if err != nil {
		return fmt.Errorf("make patch: %w", err)
	}
	report(len(new))
	return nil
}

// windowOf returns the smallest window in which each byte of the new image can refer to each
// byte of the old one that lies near the same place.
func windowOf(old, size int) int {
	return 1 << bits.Len(uint(max(old+old/8, size, zstd.MinWindowSize)-1))
}

// onlyReader hides the WriteTo of a decoder, which would write blocks of any size.
type onlyReader struct{ io.Reader }

// input reads a patch until the context ends or rest bytes are read, and remembers the error
// of its reader.
type input struct {
	ctx  context.Context
	r    io.Reader
	rest int64
	err  error
}

func (i *input) Read(p []byte) (int, error) {
	if i.err = context.Cause(i.ctx); i.err != nil {
		return 0, i.err
	}
	if i.rest <= 0 {
		i.err = errkind.Errorf(errkind.Corrupt, "the patch is larger than the image")
		return 0, i.err
	}
	n, err := i.r.Read(p[:min(int64(len(p)), i.rest)])
	i.rest -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		i.err = err
	}
	return n, err
}

// output writes an image, and fails after rest bytes or when the context ends. It remembers its error.
type output struct {
	ctx  context.Context
	w    io.Writer
	rest int64
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err = context.Cause(o.ctx); o.err != nil {
		return 0, o.err
	}
	if int64(len(p)) > o.rest {
		o.err = errkind.Errorf(errkind.Corrupt, "the patch makes more bytes than the image has")
		p = p[:o.rest]
	}
	n, err := o.w.Write(p)
	o.rest -= int64(n)
	if err != nil {
		o.err = err
	}
	return n, o.err
}
