package systemd

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// TransientMount is a mount unit without a unit file (systemd.mount(5)). It exists while the
// file system is mounted.
type TransientMount struct {
	Description string
	What        string
	Type        string        // "": mount(8) finds it
	Options     string        // separated by commas
	Timeout     time.Duration // systemd ends the mount program after this time
}

// StartMount mounts m at the place that name, the name of the unit, stands for, and waits
// until that has ended. It fails, with errkind.Exists, if a unit of that name is loaded.
// Other errors are those of [Manager].
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

// Disable undoes Enable. It stops nothing.
func (b *Bus) Disable(ctx context.Context, unit string) error {
	conn, err := b.connect(ctx, "disable", unit)
	if err != nil {
		return err
	}
	_, err = conn.DisableUnitFilesContext(ctx, []string{unit}, false)
	return callError(ctx, "disable", unit, err)
}
