package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// lockFile is below the root folder. A daemon does not remove it at its end: that would
// race with the next daemon, which may have opened the file already.
const lockFile = "run/trident/lock"

// lock makes this the only daemon on a root folder until the file is closed or the process
// ends. The socket cannot ensure that, because systemd makes it. It fails with Busy if
// another daemon has the lock.
func lock(root string) (*os.File, error) {
	path := filepath.Join(root, lockFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errkind.Errorf(errkind.Busy, "another tridentd runs%s", holder(f))
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	_, werr := f.WriteAt([]byte(fmt.Sprintf("%-20d\n", os.Getpid())), 0)
	if werr != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, werr), f.Close())
	}
	return f, nil
}

// holder returns the process that has the lock, for an error; "" if the file lacks it.
func holder(f *os.File) string {
	data, err := io.ReadAll(io.LimitReader(f, 32))
	pid, perr := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || perr != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}
