package systemd

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
)

func (t Transient) check(name string) error {
	if len(t.Exec) == 0 || !path.IsAbs(t.Exec[0]) {
		return errkind.Errorf(errkind.Invalid, "start %s: the program must be an absolute path", name)
	}
	return nil
}

// contextError returns the error of a call whose context has ended.
func contextError(ctx context.Context, verb, unit string) error {
	kind := errkind.Cancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = errkind.Timeout
	}
	return errkind.Errorf(kind, "%s %s: %w", verb, unit, ctx.Err())
}

// callError adds verb, unit and a kind to the error of a D-Bus call.
func callError(ctx context.Context, verb, unit string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return contextError(ctx, verb, unit)
	}
	kind := errkind.Unavailable // the connection broke
	if e, ok := errors.AsType[dbus.Error](err); ok {
		kind = kindOf(e.Name)
	}
	return errkind.Errorf(kind, "%s %s: %w", verb, unit, err)
}

// OrAbsent returns err of the kind Precondition, with a hint, if a method of [Bus] failed because
// the host has no systemd: Unavailable would have clients call again, in vain.
func OrAbsent(err error) error {
	if errkind.Of(err) != errkind.Unavailable || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errkind.WithHint(errkind.With(errkind.Precondition, err), "the host needs systemd for this, as PID 1 and reachable by D-Bus")
}

// kindOf returns the kind for the name of a D-Bus error, of systemd
// (org.freedesktop.systemd1(5)) or of D-Bus itself; errkind.Internal for all others.
func kindOf(name string) errkind.Kind {
	switch name {
	case "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject",
		"org.freedesktop.DBus.Error.FileNotFound", "System.Error.ENOENT": // of unit files
		return errkind.NotFound
	case "org.freedesktop.systemd1.UnitExists":
		return errkind.Exists
	case "org.freedesktop.login1.BlockedByInhibitorLock", "org.freedesktop.login1.OperationInProgress",
		"org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.LoadFailed", "org.freedesktop.systemd1.BadUnitSetting":
		return errkind.Precondition
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return errkind.Denied
	case "org.freedesktop.DBus.Error.InvalidArgs":
		return errkind.Invalid
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout", "org.freedesktop.DBus.Error.TimedOut":
		return errkind.Timeout
	case "org.freedesktop.DBus.Error.Disconnected", "org.freedesktop.DBus.Error.LimitsExceeded",
		"org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown",
		"org.freedesktop.systemd1.ShuttingDown", "org.freedesktop.systemd1.TransactionIsDestructive":
		return errkind.Unavailable
	}
	return errkind.Internal
}
