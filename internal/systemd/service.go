package systemd

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// NamedListener is a socket that systemd opened for this process.
type NamedListener struct {
	Name string // FileDescriptorName=, by default the name of the socket unit
	net.Listener
}

// Listeners returns the sockets that systemd passed to this process (sd_listen_fds(3)),
// in order, and unsets the variables that announce them, so that no child process uses
// them. It returns none if systemd passed none. If a descriptor is not a listening stream
// socket, Listeners closes all and fails. Call it once.
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

// Notify sends the state of this service, such as "READY=1", to the service manager
// (sd_notify(3)). It does nothing without a service manager.
func Notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog returns how long the service manager waits for a notification WATCHDOG=1 before
// it kills this service (WatchdogSec=); 0 means for ever. Notify twice in that time.
func Watchdog() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read the watchdog interval: %w", err)
	}
	return d, nil
}
