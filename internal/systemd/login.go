package systemd

import (
	"context"
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
)

// Login is the part of systemd-logind that Trident uses. Errors are those of [Manager]:
// Unavailable if logind cannot be reached.
type Login interface {
	// Inhibitors returns the programs that ask to delay or to prevent something.
	Inhibitors(ctx context.Context) ([]Inhibitor, error)
	// Reboot begins an orderly reboot of the host, and PowerOff switches it off. Both
	// return when logind has accepted the request. With ignoreInhibitors they do not fail
	// because a program prevents the shutdown; programs that delay it have their time.
	Reboot(ctx context.Context, ignoreInhibitors bool) error
	PowerOff(ctx context.Context, ignoreInhibitors bool) error
}

// An Inhibitor is an inhibitor lock (systemd-inhibit(1)).
type Inhibitor struct {
	What []string // shutdown, sleep, idle, …
	Who  string
	Why  string
	Mode string // block, block-weak or delay
	PID  uint32
}

// PreventsShutdown reports whether the lock prevents a shutdown and a reboot.
func (i Inhibitor) PreventsShutdown() bool {
	if i.Mode == "delay" {
		return false
	}
	for _, what := range i.What {
		if what == "shutdown" {
			return true
		}
	}
	return false
}

// checkInhibitors is SD_LOGIND_ROOT_CHECK_INHIBITORS: without it logind ignores all
// inhibitors of a request of root (org.freedesktop.login1(5), systemd 246 and later).
const checkInhibitors = uint64(1)

// Logind is the logind on the D-Bus at an address; "" is the system bus. It connects for each
// call.
type Logind struct{ Address string }

var _ Login = Logind{}

// call calls a method of logind's manager, and stores the answer in results.
func (l Logind) call(ctx context.Context, verb, what, method string, args []any, results ...any) error {
	conn, err := l.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return contextError(ctx, verb, what)
		}
		return errkind.Errorf(errkind.Unavailable, "%s %s: connect to systemd-logind: %w", verb, what, err)
	}
	defer conn.Close()
	answer := conn.Object("org.freedesktop.login1", "/org/freedesktop/login1").CallWithContext(ctx, "org.freedesktop.login1.Manager."+method, 0, args...)
	if answer.Err == nil {
		return answer.Store(results...)
	}
	if e, ok := errors.AsType[dbus.Error](answer.Err); ok && ctx.Err() == nil && isNotStarted(e.Name) {
		return errkind.WithHint(errkind.Errorf(errkind.Unavailable, "%s %s: systemd-logind does not start: %w", verb, what, answer.Err),
			"see systemctl status systemd-logind.service on the host")
	}
	return callError(ctx, verb, what, answer.Err)
}

// isNotStarted reports whether the name of a D-Bus error says that the message bus, or systemd
// on its behalf, could not start the service that was called (the D-Bus Specification, Starting
// Services).
func isNotStarted(name string) bool {
	switch name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.TimedOut",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.LoadFailed",
		"org.freedesktop.systemd1.BadUnitSetting", "org.freedesktop.systemd1.JobFailed":
		return true
	}
	return strings.HasPrefix(name, "org.freedesktop.DBus.Error.Spawn.")
}

func (l Logind) connect(ctx context.Context) (*dbus.Conn, error) {
	if l.Address == "" {
		return dbus.ConnectSystemBus(dbus.WithContext(ctx))
	}
	return dbus.Connect(l.Address, dbus.WithContext(ctx))
}

// Inhibitors implements [Login].
func (l Logind) Inhibitors(ctx context.Context) ([]Inhibitor, error) {
	var list []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	if err := l.call(ctx, "list", "inhibitors", "ListInhibitors", nil, &list); err != nil {
		return nil, err
	}
	out := make([]Inhibitor, len(list))
	for i, one := range list {
		out[i] = Inhibitor{What: strings.Split(one.What, ":"), Who: one.Who, Why: one.Why, Mode: one.Mode, PID: one.PID}
	}
	return out, nil
}

// Reboot implements [Login].
func (l Logind) Reboot(ctx context.Context, ignoreInhibitors bool) error {
	return l.call(ctx, "reboot", "the host", "RebootWithFlags", []any{loginFlags(ignoreInhibitors)})
}

// PowerOff implements [Login].
func (l Logind) PowerOff(ctx context.Context, ignoreInhibitors bool) error {
	return l.call(ctx, "switch off", "the host", "PowerOffWithFlags", []any{loginFlags(ignoreInhibitors)})
}

func loginFlags(ignoreInhibitors bool) uint64 {
	if ignoreInhibitors {
		return 0
	}
	return checkInhibitors
}
