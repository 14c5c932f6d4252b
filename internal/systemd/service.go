package systemd

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// NamedListener is a socket that systemd opened for us.
type NamedListener struct {
	Name string // FileDescriptorName=, by default the name of the socket unit
	net.Listener
}

// Listeners returns the sockets passed to this process (sd_listen_fds(3)), in
// order, and unsets the environment that told of them, so that no child takes
// them for its own. There are none if the process was not started for a socket.
// A descriptor that is no listening stream socket is an error; then all are
// closed. May be called once.
func Listeners() ([]NamedListener, error) {
	var found []NamedListener
	var faults []error
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("use the socket %q that systemd passed: %w", f.Name(), err))
		} else {
			found = append(found, NamedListener{f.Name(), l})
		}
		_ = f.Close() // the listener has its own descriptor
	}
	if len(faults) == 0 {
		return found, nil
	}
	for _, l := range found {
		faults = append(faults, l.Close())
	}
	return nil, errors.Join(faults...)
}

// Notify tells the service manager our state (sd_notify(3)), such as "READY=1".
// Without a service manager it does nothing.
func Notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog returns how long the service manager waits for a sign of life
// (WatchdogSec=) before it kills us; 0: for ever. Send one at half of it.
func Watchdog() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read the watchdog interval: %w", err)
	}
	return d, nil
}
