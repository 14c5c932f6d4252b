package systemd

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/unit"
	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
)

// Mounts is the part of systemd that mounts file systems and keeps them over a boot. Errors are
// those of [Manager].
type Mounts interface {
	// StartMount makes the mount unit name, mounts, and waits until that has ended. It fails,
	// with errkind.Exists, if a unit of that name is loaded.
	StartMount(ctx context.Context, name string, m TransientMount) error
	// Disable undoes Enable. It stops nothing.
	Disable(ctx context.Context, unit string) error
	// ResetFailed makes systemd forget that unit has failed. It returns nil if the unit has not
	// failed, or is not loaded.
	ResetFailed(ctx context.Context, unit string) error
}

// EscapePath returns an absolute path as it is in the name of a unit (systemd-escape(1),
// --path).
func EscapePath(path string) string { return unit.UnitNamePathEscape(path) }

// TransientMount is a mount unit without a unit file (systemd.mount(5)). It exists while the
// file system is mounted.
type TransientMount struct {
	Description string
	What        string
	Type        string        // "": mount(8) finds it
	Options     string        // separated by commas
	Timeout     time.Duration // systemd ends the mount program after this time
}

// StartMount implements [Mounts].
func (b *Bus) StartMount(ctx context.Context, name string, m TransientMount) error {
	properties := []sd.Property{
		sd.PropDescription(m.Description),
		{Name: "What", Value: dbus.MakeVariant(m.What)},
		{Name: "Type", Value: dbus.MakeVariant(m.Type)},
		{Name: "Options", Value: dbus.MakeVariant(m.Options)},
		{Name: "TimeoutUSec", Value: dbus.MakeVariant(uint64(m.Timeout.Microseconds()))},
		{Name: "CollectMode", Value: dbus.MakeVariant("inactive-or-failed")},
	}
	return b.runJob(ctx, "start", name, func(conn *connection, removed chan<- string) (int, error) {
		return conn.StartTransientUnitContext(ctx, name, "fail", properties, removed)
	})
}

// Disable implements [Mounts].
func (b *Bus) Disable(ctx context.Context, unit string) error {
	conn, err := b.connect(ctx, "disable", unit)
	if err != nil {
		return err
	}
	_, err = conn.DisableUnitFilesContext(ctx, []string{unit}, false)
	return callError(ctx, "disable", unit, err)
}

// ResetFailed implements [Mounts].
func (b *Bus) ResetFailed(ctx context.Context, unit string) error {
	conn, err := b.connect(ctx, "reset", unit)
	if err != nil {
		return err
	}
	err = callError(ctx, "reset", unit, conn.ResetFailedUnitContext(ctx, unit))
	if errkind.Of(err) == errkind.NotFound {
		return nil
	}
	return err
}
