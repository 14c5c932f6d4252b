package rules

import (
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

func (c *checker) checkScripts() {
	for at, s := range c.spec.Scripts.All() {
		c.checkScript(at, s)
		if s.Path == "" || isAbs(s.Path) {
			continue
		}
		if strings.HasPrefix(at, "scripts.preServicing") { // where upstream does not look
			c.warn(at+".path", "is %q, which is taken from the folder that tridentd runs in; wants an absolute path", form.Shorten(s.Path))
		} else {
			c.addFault(at+".path", "PathNotAbsolute", "is %q; wants an absolute path", form.Shorten(s.Path))
		}
	}
}

// checkScript checks what hooks and health checks have in common.
func (c *checker) checkScript(at string, s *hostconfig.Script) {
	if s.Interpreter != "" && !isAbs(s.Interpreter) {
		c.warn(at+".interpreter", "is %q, which is found only where PATH says; wants an absolute path", form.Shorten(s.Interpreter))
	}
	c.checkEnvironment(at, s)
	c.checkRunOn(at, s.RunOn)
}

func (c *checker) checkRunOn(at string, list []hostconfig.ServicingType) {
	if len(list) == 0 {
		c.warn(at, "never runs: runOn is empty")
	}
}

// longCheck is a day, in seconds: a longer timeout is most likely a mistake.
const longCheck = 24 * 60 * 60

func (c *checker) checkHealth() {
	for _, f := range healthNameFaults(&c.spec.Health) {
		c.warn(f.Path, "%s", f.Message)
	}
	for i, check := range c.spec.Health.Checks {
		at := fmt.Sprintf("health.checks[%d]", i)
		if s := check.Script; s != nil {
			c.checkScript(at, s)
			if s.Path != "" && !isAbs(s.Path) {
				c.warn(at+".path", "is %q, which is taken from the root of the OS", form.Shorten(s.Path))
			}
		}
		if s := check.Systemd; s != nil {
			c.checkSystemdCheck(at, s)
		}
	}
}

func (c *checker) checkSystemdCheck(at string, s *hostconfig.SystemdCheck) {
	if len(s.SystemdServices) == 0 {
		c.warn(at+".systemdServices", "is empty: the check always passes")
	}
	if s.TimeoutSeconds > longCheck {
		c.warn(at+".timeoutSeconds", "is more than a day")
	}
	c.checkRunOn(at, s.RunOn)
}
