package hostconfig

import (
	"fmt"
	"strings"
)

func (c *checker) scripts() {
	for _, s := range c.spec.Scripts.all() {
		c.script(s.path, s.script)
		if s.script.Path == "" || isAbs(s.script.Path) {
			continue
		}
		if strings.HasPrefix(s.path, "scripts.preServicing") { // where upstream does not look
			c.warn(s.path+".path", "is %q, which is taken from the folder that tridentd runs in; wants an absolute path", brief(s.script.Path))
		} else {
			c.fault(s.path+".path", "PathNotAbsolute", "is %q; wants an absolute path", brief(s.script.Path))
		}
	}
}

// script checks what hooks and health checks have in common.
func (c *checker) script(at string, s *Script) {
	if s.Interpreter != "" && !isAbs(s.Interpreter) {
		c.warn(at+".interpreter", "is %q, which is found only where PATH says; wants an absolute path", brief(s.Interpreter))
	}
	c.environment(at, s)
	c.runOn(at, s.RunOn)
}

func (c *checker) runOn(at string, list []ServicingType) {
	if len(list) == 0 {
		c.warn(at, "never runs: runOn is empty")
	}
}

// longCheck is a day: a host that is not healthy by then has nobody waiting for it.
const longCheck = 24 * 60 * 60

func (c *checker) health() {
	for i, check := range c.spec.Health.Checks {
		at := fmt.Sprintf("health.checks[%d]", i)
		if s := check.Script; s != nil {
			c.script(at, s)
			if s.Path != "" && !isAbs(s.Path) {
				c.warn(at+".path", "is %q, which is taken from the root of the OS", brief(s.Path))
			}
		}
		if s := check.Systemd; s != nil {
			c.systemdCheck(at, s)
		}
	}
}

func (c *checker) systemdCheck(at string, s *SystemdCheck) {
	if len(s.SystemdServices) == 0 {
		c.warn(at+"."+systemdKey, "is empty: the check always passes")
	}
	for i, unit := range s.SystemdServices {
		if !isUnit(unit) {
			c.warn(fmt.Sprintf("%s.%s[%d]", at, systemdKey, i), "%q is not the name of a unit", brief(unit))
		}
	}
	if s.TimeoutSeconds > longCheck {
		c.warn(at+".timeoutSeconds", "is more than a day")
	}
	c.runOn(at, s.RunOn)
}
