// Package systemd is what we ask of systemd, over D-Bus only.
//
// Tools such as systemctl and systemd-sysext would run in our own mount
// namespace and cgroup, and die with us when we are restarted; a call to PID 1
// does neither. [Manager] is an interface because another process is behind
// it: [Bus] is the real one, systemdtest.Fake stands in for it, and one suite,
// systemdtest.Suite, runs on both.
//
// The small things that a service says to its service manager ([Notify],
// [Watchdog], [Listeners]) and what it asks of the journal ([JournalTail])
// are here too.
package systemd

import (
	"context"
	"time"
)

// Manager is the part of org.freedesktop.systemd1.Manager that we need.
//
// Every call ends when ctx does: then a job that was queued still runs, only
// nobody waits for it. Errors name the unit; their kind is NotFound (no such
// unit), Exists, Precondition (masked, or no valid unit file), Timeout (of ctx
// or of the job), Cancelled, Unavailable (systemd cannot be reached, or another
// job took the place of ours: try again) or, where a job failed, Internal.
type Manager interface {
	// Restart queues a restart of unit and returns without waiting for it, so
	// that a service can restart itself.
	Restart(ctx context.Context, unit string) error
	// ReloadOrRestart reloads unit if it is active and can be reloaded, else
	// restarts (or starts) it, and waits until that is done.
	ReloadOrRestart(ctx context.Context, unit string) error
	// StartTransient makes the unit name out of t and returns when its program
	// has been started. A unit of that name that is still loaded is an error of
	// kind Exists. The unit is forgotten once it has ended for good, however it ended.
	StartTransient(ctx context.Context, name string, t Transient) error
	// Stop stops unit and waits until it has stopped. A unit that is not loaded
	// has stopped.
	Stop(ctx context.Context, unit string) error
	// ResetFailed forgets the failures, and the restarts counted against the
	// start limit, of units. A unit that is not loaded has none.
	ResetFailed(ctx context.Context, units ...string) error
	// Reload makes systemd read all unit files again and waits for it.
	Reload(ctx context.Context) error
	// Enable has unit started at every boot, as the [Install] section of its file
	// says; one without such a section is left alone. It starts nothing.
	Enable(ctx context.Context, unit string) error
	// Reboot has the host reboot in order, whoever asks for something else
	// meanwhile, and returns without waiting for it.
	Reboot(ctx context.Context) error
	// Version is the number of systemd's release, such as 257.
	Version(ctx context.Context) (int, error)
	// Unit tells how unit is now.
	Unit(ctx context.Context, unit string) (Unit, error)
}

// Transient is a service that exists only as long as it runs. It has its own
// cgroup, so it outlives the one that asked for it.
type Transient struct {
	Description string
	Exec        []string      // an absolute path and its arguments
	Env         []string      // NAME=value
	Timeout     time.Duration // systemd ends it after this long; 0: never
	// Restart is how long systemd waits before it starts the program again that has
	// failed or was killed, however often; 0: it does not. A unit that waits for
	// that is still loaded.
	Restart time.Duration
	// Sandbox takes from it what is not needed to change files below /etc and /var
	// and to talk to systemd and to tridentd.
	Sandbox bool
}

// Unit is the state of a unit, in systemd's own words.
type Unit struct {
	Active     string // ActiveState: active, activating, inactive, failed, …
	Sub        string // SubState: running, exited, dead, auto-restart, …
	Result     string // of its last run: success, exit-code, signal, timeout, …; "" where the type of unit has none
	Restarts   uint32 // by Restart=, since it was last started by a job
	MainPID    uint32 // 0: none
	Invocation string // ID of this run, 32 hex digits; "" if it never ran
}
