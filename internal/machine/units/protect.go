package units

import (
	"context"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// protected are patterns of the units that are never stopped: Trident and the way to it, the
// message bus, and the units of systemd without which no unit can be handled.
func protected() []string {
	return []string{
		"tridentd*.service", "tridentd*.socket", "tridentd*.path",
		"trident-gateway*.service", "trident-gateway*.path", "trident-connect*.service",
		"trident-rescue*.service", "trident-trial*.service", "trident-script-*.service",
		"dbus.service", "dbus.socket", "dbus-broker.service",
		"init.scope", "-.slice", "system.slice", "-.mount", "usr.mount", "etc.mount", "var.mount", "run.mount",
		"systemd-journald*.service", "systemd-journald*.socket", "systemd-logind.service",
		"systemd-udevd.service", "systemd-udevd*.socket", "systemd-sysext.service", "systemd-confext.service",
	}
}

// entrances are patterns of the units through which people reach the host.
func entrances() []string {
	return []string{
		"ssh.service", "ssh.socket", "sshd.service", "sshd.socket", "ssh@*.service", "sshd@*.service",
		"systemd-networkd.service", "systemd-networkd.socket", "NetworkManager.service", "networking.service", "wpa_supplicant*.service",
		"network.target", "network-online.target",
	}
}

// maxRelated bounds how many units a check asks systemd for.
const maxRelated = 2048

// mayStop fails if a stop or restart of d would stop a unit that it must not.
func (s *Service) mayStop(ctx context.Context, job systemd.Job, d systemd.Details, mayDisconnect bool) error {
	c := &check{ctx: ctx, jobs: s.Jobs, job: job, unit: d.Name, mayDisconnect: mayDisconnect, seen: map[string]bool{}}
	return c.stop(d)
}

// mayStart fails if a start of d would stop a unit that it must not: a unit with which d, or
// a unit that starts with d, conflicts.
func (s *Service) mayStart(ctx context.Context, job systemd.Job, d systemd.Details, mayDisconnect bool) error {
	c := &check{ctx: ctx, jobs: s.Jobs, job: job, unit: d.Name, mayDisconnect: mayDisconnect, seen: map[string]bool{}}
	starts, pending := map[string]bool{d.Name: true}, []systemd.Details{d}
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		for _, name := range next.Conflicts {
			if err := c.stopNamed(name); err != nil {
				return err
			}
		}
		for _, name := range next.StartsWith {
			if starts[name] {
				continue
			}
			if starts[name] = true; len(starts) > maxRelated {
				return c.tooMany()
			}
			other, err := s.Jobs.Details(ctx, name)
			if errkind.Of(err) == errkind.NotFound && err != nil {
				continue
			}
			if err != nil {
				return err
			}
			if other.Active != "active" { // else systemd has nothing to start
				pending = append(pending, other)
			}
		}
	}
	return nil
}

// A check follows the relations by which one job stops units.
type check struct {
	ctx           context.Context
	jobs          systemd.Jobs
	job           systemd.Job
	unit          string // of the job
	mayDisconnect bool
	seen          map[string]bool
}

func (c *check) tooMany() error {
	return errkind.Errorf(errkind.TooLarge, "%s %s: more than %d units depend on it", c.job, c.unit, maxRelated)
}

// stopNamed checks the stop of a unit by its name. A unit that does not run is not stopped.
func (c *check) stopNamed(name string) error {
	if c.seen[name] {
		return nil
	}
	if err := c.judge([]string{name}); err != nil {
		// Only if it runs: a unit may conflict with one that the host does not use.
		if d, derr := c.jobs.Details(c.ctx, name); derr == nil && isDown(d) {
			return nil
		}
		return err
	}
	d, err := c.jobs.Details(c.ctx, name)
	if errkind.Of(err) == errkind.NotFound && err != nil {
		c.seen[name] = true
		return nil
	}
	if err != nil {
		return err
	}
	if isDown(d) {
		c.seen[name] = true
		return nil
	}
	return c.stop(d)
}

func isDown(d systemd.Details) bool { return d.Active == "inactive" || d.Active == "failed" }

// stop checks the stop of d, and of the units that stop with it.
func (c *check) stop(d systemd.Details) error {
	pending := []systemd.Details{d}
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		if err := c.judge(append([]string{next.Name}, next.Names...)); err != nil {
			return err
		}
		c.seen[next.Name] = true
		for _, name := range next.StopsWith {
			if c.seen[name] {
				continue
			}
			if c.seen[name] = true; len(c.seen) > maxRelated {
				return c.tooMany()
			}
			other, err := c.jobs.Details(c.ctx, name)
			if errkind.Of(err) == errkind.NotFound && err != nil {
				continue
			}
			if err != nil {
				return err
			}
			if !isDown(other) {
				pending = append(pending, other)
			}
		}
	}
	return nil
}

// judge fails if one of the names of a unit is protected.
func (c *check) judge(names []string) error {
	if name, ok := matching(names, protected()); ok {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s %s: %s, which the host needs to be serviced", c.job, c.unit, c.effectOn(name)),
			"to reboot or switch off the host: trident host reboot, trident host shutdown; for anything else, on the console of the host: systemctl %s %s", c.job, c.unit)
	}
	if name, ok := matching(names, entrances()); ok && !c.mayDisconnect {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s %s: %s, through which people reach the host", c.job, c.unit, c.effectOn(name)),
			"if there is another way to the host: trident host service %s --allow-disconnect %s", c.job, c.unit)
	}
	return nil
}

func (c *check) effectOn(name string) string {
	if name == c.unit {
		return "this is a unit"
	}
	return "this would stop " + name
}

// matching returns the first name that matches one of patterns.
func matching(names, patterns []string) (string, bool) {
	for _, name := range names {
		if slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			return name, true
		}
	}
	return "", false
}
