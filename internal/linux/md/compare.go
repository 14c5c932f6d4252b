package md

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Check implements [Checker].
func (h *Host) Check(ctx context.Context, id UUID) (differ int64, err error) {
	st, ok, err := h.find(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, errkind.Errorf(errkind.NotFound, "check array %s: it does not run", id)
	case st.Action != "idle":
		return 0, errkind.Errorf(errkind.Busy, "check array %q: the kernel is busy with it: %s", st.Name, st.Action)
	}
	dir := filepath.Join(h.sys(), st.Kernel, "md")
	if err := setAttribute(filepath.Join(dir, syncAction), "check"); err != nil {
		return 0, fmt.Errorf("check array %q: %w", st.Name, err)
	}
	if err := awaitIdle(ctx, filepath.Join(dir, syncAction)); err != nil {
		return 0, fmt.Errorf("check array %q: %w", st.Name, err)
	}
	text, err := attribute(filepath.Join(dir, "mismatch_cnt"))
	if err != nil {
		return 0, fmt.Errorf("check array %q: %w", st.Name, err)
	}
	sectors, err := strconv.ParseInt(text, 10, 54)
	if err != nil {
		return 0, errkind.Errorf(errkind.Corrupt, "check array %q: the number of differences is %q", st.Name, text)
	}
	return sectors * sectorSize, nil
}

// awaitIdle waits until the attribute reads "idle" or has gone. The kernel reports its
// changes as exceptional events (sysfs_notify).
func awaitIdle(ctx context.Context, name string) error {
	const look = time.Second // at ctx
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		action, err := attribute(name)
		if err != nil || action == "idle" || action == "" {
			return err
		}
		if err := ctx.Err(); err != nil {
			return errkind.With(errkind.Cancelled, err)
		}
		if _, err := f.ReadAt(make([]byte, 64), 0); err != nil && !errors.Is(err, io.EOF) { // arms the event
			return err
		}
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(look.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
