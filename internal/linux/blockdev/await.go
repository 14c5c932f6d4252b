package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Await waits until all paths exist: device nodes that the kernel makes, and links that
// udev adds. It watches folders with inotify. It fails, with errkind.Timeout, if ctx ends
// first.
func Await(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		if err := await(ctx, path); err != nil {
			return fmt.Errorf("wait for %s: %w", path, err)
		}
	}
	return nil
}

func await(ctx context.Context, path string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	watched, buf := "", make([]byte, 4096)
	for {
		// Watch before the check: a path that appears between the two causes an event.
		if dir := nearest(path); dir != watched {
			if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("watch %s: %w", dir, err)
			}
			watched = dir
			continue
		}
		if _, err := os.Stat(path); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := events.Read(buf); err != nil {
			if ctx.Err() != nil {
				return errkind.Errorf(errkind.Timeout, "the path did not appear: %w", context.Cause(ctx))
			}
			return err
		}
	}
}

// nearest returns the lowest existing folder above path.
func nearest(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
	}
}
