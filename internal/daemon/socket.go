package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// socketFile is the default socket, below the root folder.
const socketFile = "run/trident/trident.sock"

// maxSocketPath is the longest path of a unix socket, in bytes (unix(7)).
const maxSocketPath = 107

// socketNames returns the names that a socket passed by systemd may have: that of our
// unit, and those of a descriptor without a name.
func socketNames() []string { return []string{"tridentd.socket", "unknown", "LISTEN_FD_3"} }

// listen returns the socket that systemd passed, or, if it passed none or path
// is set, a new one.
func listen(root, path string) (*net.UnixListener, error) {
	inherited, err := systemd.Listeners()
	if err != nil {
		return nil, err
	}
	if path == "" && len(inherited) > 0 {
		return checkInherited(inherited)
	}
	for _, l := range inherited {
		_ = l.Close()
	}
	if path == "" {
		path = filepath.Join(root, socketFile)
	}
	return listenOwn(path)
}

// checkInherited returns the socket that systemd passed, if it is one unix socket of ours.
func checkInherited(inherited []systemd.NamedListener) (*net.UnixListener, error) {
	l, isUnix := inherited[0].Listener.(*net.UnixListener)
	var err error
	switch {
	case len(inherited) != 1:
		err = fmt.Errorf("systemd passed %d sockets, not 1", len(inherited))
	case !isUnix:
		err = fmt.Errorf("it is a %s socket, not a unix socket", inherited[0].Addr().Network())
	case !slices.Contains(socketNames(), inherited[0].Name):
		err = fmt.Errorf("its name is %q, not tridentd.socket", inherited[0].Name)
	default:
		return l, nil
	}
	for _, l := range inherited {
		_ = l.Close()
	}
	return nil, errkind.Errorf(errkind.Invalid, "use the socket that systemd passed: %w", err)
}

// listenOwn makes a socket that only its owner can open, and that is removed when it is
// closed. It replaces a socket on which no process listens any more.
func listenOwn(path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.Invalid, "listen on %s: the path has %d bytes, and that of a socket can have %d", path, len(path), maxSocketPath),
			"choose a shorter path with --socket, or a shorter --root")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Not chmod: the mode has to be right from the first moment. The umask is that of
	// the whole process, which makes no other file while New runs.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket on which no process listens. It fails, and removes nothing,
// if path is another kind of file (Exists) or if a process answers there (Busy).
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errkind.Errorf(errkind.Exists, "the path exists and is not a socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(errkind.Errorf(errkind.Busy, "another process answers there already"), conn.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("check whether another process answers there: %w", err)
	}
	return os.Remove(path)
}
