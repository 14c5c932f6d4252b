package image

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// unpackRest is the memory to unpack a file, in bytes, besides twice its window.
const unpackRest = 8 << 20

// UnpackMemory returns the most memory, in bytes, that a file needs to be unpacked, if no
// window of its frames is larger than window.
func UnpackMemory(window int64) int64 { return 2*window + unpackRest }

// Window returns the largest window of a frame, in bytes, that the image unpacks.
func (i *Image) Window() int64 {
	if i.most > 0 {
		return min(i.most, 1<<i.window)
	}
	return 1 << i.window
}

// LimitWindow makes the image refuse frames with a larger window, in bytes; 0 is no limit.
// It restores a limit that Window returned after FitMemory, maybe in another process.
func (i *Image) LimitWindow(window int64) { i.most = window }

// FitMemory fails, with errkind.TooLarge, if the files of the image cannot be unpacked, one
// after another, in available bytes of memory. Afterwards the image refuses frames that
// need more. FitMemory reads only the first frame header of each file. So the windows that
// the metadata allows must fit as well, unless the image is Local: then the caller must
// read all of the image before it uses it.
func (i *Image) FitMemory(ctx context.Context, available int64) error {
	declared := int64(1) << i.window
	most := min(max(available-unpackRest, 0)/2, declared)
	for _, p := range i.files() {
		window, err := p.firstWindow(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", p.File.Path, err)
		case window > declared:
			return fmt.Errorf("read %s: %w", p.File.Path, i.tooLarge(window))
		case window > most:
			return lacksMemory(available, "%s is packed with a window of %d bytes", p.File.Path, window)
		}
	}
	if most < declared && i.meta.Compression != nil && !i.Local() {
		return lacksMemory(available, "its metadata allows windows of %d bytes", declared)
	}
	i.most = max(most, 1<<10)
	return nil
}

// Limited reports whether FitMemory or LimitWindow has set a limit below that of the
// metadata.
func (i *Image) Limited() bool { return i.Window() < 1<<i.window }

func lacksMemory(available int64, format string, args ...any) error {
	window := args[len(args)-1].(int64)
	err := errkind.Errorf(errkind.TooLarge, "%s, so unpacking needs up to %d bytes of memory, and %d are available",
		fmt.Sprintf(format, args...), UnpackMemory(window), max(available, 0))
	return errkind.WithHint(err, "Give the host more memory, or pack the image with smaller windows (zstd without --long).")
}

// tooLarge returns the error for a frame with a larger window than the image may have.
func (i *Image) tooLarge(window int64) error {
	if i.Limited() && (window == 0 || window <= 1<<i.window) {
		return errkind.Errorf(errkind.TooLarge, "a zstd frame has a window of more than %d bytes, for which this host does not have the memory", i.most)
	}
	return corrupt("a zstd frame has a larger window than compression.maxWindowLog says")
}

// maxSkipped bounds the skippable frames before the first frame.
const maxSkipped = 16

// firstWindow returns the window of the file's first frame; 0 if the file is not zstd, for
// which Stream has the error.
func (p *Partition) firstWindow(ctx context.Context) (int64, error) {
	at := int64(0)
	for range maxSkipped {
		head := make([]byte, min(zstd.HeaderMaxSize, p.File.Compressed-at))
		if len(head) == 0 {
			return 0, nil
		}
		if _, err := p.image.src.ReadAt(ctx, head, p.off+at); err != nil {
			return 0, err
		}
		var h zstd.Header
		if h.Decode(head) != nil {
			return 0, nil
		}
		if h.Skippable {
			at += 8 + int64(h.SkippableSize)
			if at > p.File.Compressed {
				return 0, nil
			}
			continue
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		return int64(min(window, maxImage)), nil
	}
	return 0, nil
}
