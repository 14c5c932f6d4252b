package image

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/trident-project/trident/internal/errkind"
)

// unpackRest is what unpacking one file takes beside twice its window.
const unpackRest = 8 << 20

// UnpackMemory returns the memory in bytes that unpacking a file takes at most if no window
// of its frames is larger than window.
func UnpackMemory(window int64) int64 { return 2*window + unpackRest }

// Window is the largest window of a frame, in bytes, that is unpacked.
func (i *Image) Window() int64 {
	if i.most > 0 {
		return min(i.most, 1<<i.window)
	}
	return 1 << i.window
}

// LimitWindow has no frame unpacked whose window is larger, as Window was after
// FitMemory: another process may have called that. 0 is no limit.
func (i *Image) LimitWindow(window int64) { i.most = window }

// FitMemory checks that the files of the image can be unpacked one after another in so
// many bytes of memory, and has no frame unpacked from then on that takes more. It
// reads the beginning of each file. Of an image that is not Local only the first frame
// of a file is seen, so that for the others its metadata counts: what that allows has to
// fit. A Local one need not, if all of it is read before it is used. The error is of
// kind TooLarge.
func (i *Image) FitMemory(ctx context.Context, available int64) error {
	declared := int64(1) << i.window
	most := min(max(available-unpackRest, 0)/2, declared)
	for n := range i.parts {
		p := &i.parts[n]
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

// Limited reports whether FitMemory, or LimitWindow, left less than the metadata allows.
func (i *Image) Limited() bool { return i.Window() < 1<<i.window }

func lacksMemory(available int64, format string, args ...any) error {
	window := args[len(args)-1].(int64)
	err := errkind.Errorf(errkind.TooLarge, "%s, so that unpacking it takes up to %d bytes of memory, and this host has %d to give",
		fmt.Sprintf(format, args...), UnpackMemory(window), max(available, 0))
	return errkind.WithHint(err, "Give the host more memory, or pack the image with smaller windows (zstd without --long).")
}

// tooLarge is a frame with a larger window than the image may have.
func (i *Image) tooLarge(window int64) error {
	if i.Limited() && (window == 0 || window <= 1<<i.window) {
		return errkind.Errorf(errkind.TooLarge, "it has a frame with a larger window than %d bytes, and this host has no memory for more", i.most)
	}
	return corrupt("it needs a larger window to be unpacked than compression.maxWindowLog says")
}

// maxSkipped is how many skippable frames may come before the first frame.
const maxSkipped = 16

// firstWindow is the window of the file's first frame; 0 for what is not zstd, which
// unpacking finds.
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
