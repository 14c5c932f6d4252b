package systemd

import (
	"fmt"
	"strings"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// setting is a setting of systemd.exec(5): its text in a unit file, its value in D-Bus.
type setting struct {
	name, text string
	value      any
}

// list is the D-Bus value of a setting that allows names or, with ~ in a unit file,
// denies them.
type list struct {
	Allow bool
	Names []string
}

// sandbox returns the settings that confine units which only change files below /etc and
// /var and talk to systemd and to tridentd. No setting mounts anything below /usr,
// because systemd merges and unmerges extensions there while such a unit runs, and a
// private mount would keep the old extensions busy. No setting makes the unit wait for a
// mount, as PrivateTmp= does, because the boot of the system may have failed.
func sandbox() []setting {
	settings := []setting{
		{"CapabilityBoundingSet", "", uint64(0)},
		{"ProtectHome", "yes", "yes"},
		{"RestrictAddressFamilies", "AF_UNIX", list{true, []string{"AF_UNIX"}}},
		{"RestrictNamespaces", "yes", uint64(0)},
		{"SystemCallArchitectures", "native", []string{"native"}},
		{"SystemCallErrorNumber", "EPERM", int32(unix.EPERM)},
		{"SystemCallFilter", "@system-service", list{true, []string{"@system-service"}}},
		{"SystemCallFilter", "~@privileged @resources", list{false, []string{"@privileged", "@resources"}}},
		{"UMask", "0077", uint32(0o077)},
	}
	for _, name := range []string{
		"LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateDevices", "PrivateNetwork", "ProtectClock",
		"ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelTunables", "RestrictRealtime", "RestrictSUIDSGID",
	} {
		settings = append(settings, setting{name, "yes", true})
	}
	return settings
}

// Sandbox returns the settings of [Transient.Sandbox] as lines for the section [Service]
// of a unit file.
func Sandbox() string {
	var b strings.Builder
	for _, s := range sandbox() {
		fmt.Fprintf(&b, "%s=%s\n", s.name, s.text)
	}
	return b.String()
}

func sandboxProperties() []sd.Property {
	var out []sd.Property
	for _, s := range sandbox() {
		out = append(out, sd.Property{Name: s.name, Value: dbus.MakeVariant(s.value)})
	}
	return out
}
