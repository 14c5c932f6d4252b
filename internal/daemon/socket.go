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

// maxSocketPath is how many bytes the path of a unix socket can have (unix(7)).
const maxSocketPath = 107

// socketNames are the names that a socket passed by systemd may have: that of
// our unit, and that of a descriptor without a name.
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

// checkInherited checks that what systemd passed is one unix socket of ours.
func checkInherited(inherited []systemd.NamedListener) (*net.UnixListener, error) {
	l, isUnix := inherited[0].Listener.(*net.UnixListener)
	var err error
	switch {
	case len(inherited) != 1:
		err = fmt.Errorf("%d sockets, it can serve one", len(inherited))
	case !isUnix:
		err = fmt.Errorf("a %s socket, it serves unix sockets only", inherited[0].Addr().Network())
	case !slices.Contains(socketNames(), inherited[0].Name):
		err = fmt.Errorf("a socket named %q, its own is named tridentd.socket", inherited[0].Name)
	default:
		return l, nil
	}
	for _, l := range inherited {
		_ = l.Close()
	}
	return nil, errkind.Errorf(errkind.Invalid, "use the socket that systemd passed: %w", err)
}

// listenOwn makes a socket that only its owner can open. One that nobody answers on
// any more is replaced; it is removed again when it is closed.
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
	// The mode must be right from the first moment on, hence no chmod. The umask
	// is the process's; nothing else makes files while the daemon is being built.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket on which nobody listens, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errkind.Errorf(errkind.Exists, "there is something that is no socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(errkind.Errorf(errkind.Busy, "somebody answers there already"), conn.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("ask whether somebody answers there: %w", err)
	}
	return os.Remove(path)
}
