package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/api/control"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/machine/capture"
	"github.com/trident-project/trident/internal/machine/files"
	"github.com/trident-project/trident/internal/machine/logs"
	"github.com/trident-project/trident/internal/machine/mounts"
	"github.com/trident-project/trident/internal/machine/power"
	"github.com/trident-project/trident/internal/machine/units"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/systemd"
)

// newEvents returns the events of the host. The first caller who asks for them begins the watch
// of units and mounts, which ends with ctx.
func newEvents(ctx context.Context, c Config, life operation.Life) *logs.Events {
	var events *logs.Events
	events = logs.NewEvents(ctx, life.Boot, bootTime(), func(ctx context.Context, ready func()) { logs.Watch(ctx, "/", c.Systemd, events, ready) })
	return events
}

// bootTime returns when the kernel booted, by the clock of now.
func bootTime() time.Time {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return time.Time{}
	}
	return time.Now().Round(0).Add(-time.Duration(since.Nano()))
}

// controlOf returns the services behind the calls about units, logs, files, packets and power.
func controlOf(c Config, runner *operation.Runner, events *logs.Events) *control.Services {
	login := c.Login
	switch {
	case login != nil:
	case c.Root == "/":
		login = systemd.Logind{}
	default:
		login = noLogin{c.Root}
	}
	return &control.Services{
		Units: &units.Service{Jobs: c.Systemd}, Logs: &logs.Service{Root: "/", Tools: run.Host{}}, Events: events,
		Files: &files.Service{Root: c.Root}, Capture: &capture.Service{Root: "/"}, Power: &power.Service{Login: login, Operations: runner},
		Mounts: mounts.New(c.Root, c.Systemd, run.Host{}),
	}
}

// noLogin is the logind of a daemon that services a folder: it must not reboot the machine on
// which the folder is.
type noLogin struct{ root string }

func (n noLogin) fault() error {
	return errkind.Errorf(errkind.Unsupported, "this tridentd services the folder %s, which cannot be switched off", n.root)
}

func (n noLogin) Inhibitors(context.Context) ([]systemd.Inhibitor, error) { return nil, n.fault() }
func (n noLogin) Reboot(context.Context, bool) error                      { return n.fault() }
func (n noLogin) PowerOff(context.Context, bool) error                    { return n.fault() }

// withoutSystemd returns why the host below root has no systemd, and nil if it has: if the folder
// mark exists (sd_booted(3)). A container of Trident sees the /run of its host. A daemon that
// services a folder has the systemd that it was given.
func withoutSystemd(root, mark string) error {
	if _, err := os.Lstat(mark); root != "/" || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "this host has not been started by systemd"),
		"use the tools of the host's own service manager for units, mounts and power")
}
