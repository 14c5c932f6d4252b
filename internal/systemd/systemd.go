// Package systemd controls the running systemd over D-Bus.
//
// Tools such as systemctl and systemd-sysext would run in the mount namespace and cgroup
// of the daemon, and die when the daemon is restarted; PID 1 does the work of a D-Bus
// call itself. Two callers run a tool: [JournalTail] runs journalctl, and package osconfig
// runs systemctl --root for an OS that does not run. [Bus] implements [Manager] with the
// real systemd, systemdtest.Fake in memory, and systemdtest.Suite tests both.
//
// The package also has the protocol between a service and its service manager: [Notify],
// [Watchdog] and [Listeners].
package systemd

import (
	"context"
	"time"
)

// Manager is the part of org.freedesktop.systemd1.Manager that Trident uses.
//
// Every call returns when ctx ends; a job that the call has queued continues. Errors name
// the unit. Their kind is NotFound (no such unit), Exists, Precondition (the unit is
// masked, or its file is not valid), Timeout (of ctx or of the job), Cancelled,
// Unavailable (systemd cannot be reached, or another job replaced this one: try again)
// or, if a job failed, Internal.
type Manager interface {
	Units
	// Reload makes systemd read all unit files again, and waits until it has.
	Reload(ctx context.Context) error
	// Reboot begins an orderly reboot of the host, which other jobs cannot cancel, and
	// returns without waiting for it.
	Reboot(ctx context.Context) error
	// Version returns the number of systemd's release, such as 257.
	Version(ctx context.Context) (int, error)
}

// Units is the part of Manager that controls one unit at a time.
type Units interface {
	// Restart queues a restart of unit and returns without waiting for it, so
	// that a service can restart itself.
	Restart(ctx context.Context, unit string) error
	// ReloadOrRestart reloads unit if it is active and can be reloaded, else
	// restarts (or starts) it, and waits for the end of the job.
	ReloadOrRestart(ctx context.Context, unit string) error
	// StartTransient makes the unit name from t and returns when systemd has started
	// the program. It fails, with errkind.Exists, if a unit of that name is loaded.
	// systemd unloads the unit when it ends, also after a failure.
	StartTransient(ctx context.Context, name string, t Transient) error
	// Stop stops unit and waits until it has stopped. It returns nil if the unit is
	// not loaded.
	Stop(ctx context.Context, unit string) error
	// Enable makes systemd start unit at every boot, as the section [Install] of its
	// file says. It does nothing for a unit without that section, and starts nothing.
	Enable(ctx context.Context, unit string) error
	// Unit returns the present state of unit.
	Unit(ctx context.Context, unit string) (Unit, error)
}

// Host is all of systemd that a daemon uses.
type Host interface {
	Manager
	Jobs
	Mounts
}

// Transient is a service without a unit file, which exists only while it runs. It has
// its own cgroup, so it outlives the process that started it.
type Transient struct {
	Description string
	Exec        []string      // an absolute path and its arguments
	Env         []string      // NAME=value
	Timeout     time.Duration // systemd stops the service after this time; 0: never
	// Restart is how long systemd waits before it starts the program again after a
	// failure or a kill, without a limit of starts; 0: systemd does not start it again.
	// The unit stays loaded meanwhile.
	Restart time.Duration
	// Sandbox takes all rights from the service but those to change files below /etc
	// and /var and to talk to systemd and to tridentd.
	Sandbox bool
}

// Unit is the state of a unit, in systemd's own words.
type Unit struct {
	Active     string // ActiveState: active, activating, inactive, failed, …
	Sub        string // SubState: running, exited, dead, auto-restart, …
	Result     string // of its last run: success, exit-code, signal, timeout, …; "" if its type has none
	Restarts   uint32 // automatic ones (Restart=), since a job started the unit
	MainPID    uint32 // 0: none
	Invocation string // ID of this run, 32 hex digits; "" if it never ran
}
