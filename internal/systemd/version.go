package systemd

import (
	"context"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/trident-project/trident/internal/errkind"
)

// Version implements [Manager].
func (b *Bus) Version(ctx context.Context) (int, error) {
	conn, err := b.connect(ctx, "ask for", "the version of systemd")
	if err != nil {
		return 0, err
	}
	var v dbus.Variant
	err = conn.both[0].Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.systemd1.Manager", "Version").Store(&v)
	if err != nil {
		return 0, callError(ctx, "ask for", "the version of systemd", err)
	}
	text, _ := v.Value().(string)
	return parseVersion(text)
}

// parseVersion returns the release in systemd's property Version: "257.13-1~deb13u1", or
// on some systems before release 253 "systemd 252 (252.39-1~deb12u1)" or "v252".
func parseVersion(text string) (int, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "systemd "), "v")
	if end := strings.IndexFunc(digits, func(c rune) bool { return c < '0' || c > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, errkind.Errorf(errkind.Unsupported, "read the version of systemd: %.80q has no number", text)
	}
	return n, nil
}
