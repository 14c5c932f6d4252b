// Package hooks runs the scripts and the health checks of a Host Configuration during a
// servicing. Each script is a systemd unit of its own, so that it sees the host and not
// the daemon's sandbox, and all processes that it has started end with it.
package hooks

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

// Of returns the scripts of a list that a servicing runs.
func Of(all []hostconfig.Script, on hostconfig.ServicingType) []hostconfig.Script {
	var out []hostconfig.Script
	for _, h := range all {
		if hostconfig.RunsOn(h.RunOn, on) {
			out = append(out, h)
		}
	}
	return out
}

// healthChecks returns the health checks that a servicing runs.
func healthChecks(h hostconfig.Health, servicing hostconfig.ServicingType) []hostconfig.HealthCheck {
	var out []hostconfig.HealthCheck
	for _, c := range h.Checks {
		on := []hostconfig.ServicingType(nil)
		switch {
		case c.Script != nil:
			on = c.Script.RunOn
		case c.Systemd != nil:
			on = c.Systemd.RunOn
		}
		if hostconfig.RunsOn(on, servicing) {
			out = append(out, c)
		}
	}
	return out
}

// HealthScripts returns the scripts of the health checks that a servicing runs.
func HealthScripts(h hostconfig.Health, on hostconfig.ServicingType) (all []hostconfig.Script) {
	for _, c := range healthChecks(h, on) {
		if c.Script != nil {
			all = append(all, *c.Script)
		}
	}
	return all
}

var (
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	control  = "\x00"
)

// Check returns an error of kind Invalid if one of the scripts cannot be run.
func Check(all []hostconfig.Script) error {
	for i, h := range all {
		fault := ""
		for name, value := range h.EnvironmentVariables {
			if !variable.MatchString(name) {
				fault = fmt.Sprintf("%.80q cannot be the name of an environment variable", name)
			} else if strings.Contains(value, control) {
				fault = fmt.Sprintf("the environment variable %s has a zero byte in it", name)
			}
		}
		if strings.Contains(strings.Join(h.Arguments, ""), control) {
			fault = "an argument has a zero byte in it"
		}
		if h.Content == nil && h.Path == "" {
			fault = "it has neither content nor path"
		}
		if fault != "" {
			return errkind.WithName(errkind.Errorf(errkind.Invalid, "script %s: %s", Name(h.Name, i), fault), errkind.NameInvalidHostConfigurationDynamic)
		}
	}
	return nil
}

// Name returns the name for messages of the script or check at index i of its list.
func Name(name string, i int) string {
	if name == "" {
		return plainName(name, i)
	}
	return fmt.Sprintf("%.80q", name)
}

// plainName returns Name without quotation marks, for texts that have their own.
func plainName(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return strings.Trim(fmt.Sprintf("%.80q", name), `"`)
}
