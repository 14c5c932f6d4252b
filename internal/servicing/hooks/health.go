package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/systemd"
)

// Times, limits and paths of health checks.
const (
	defaultSoak  = 10 * time.Second
	unitPoll     = 250 * time.Millisecond
	failuresKept = 10
	failurePlace = "var/lib/trident"
	failureName  = "trident-health-check-failure-"
)

// CheckHealth runs all health checks of a servicing at the same time. If some fail, it
// writes a log and returns an error of kind Unhealthy that names all of them.
func CheckHealth(ctx context.Context, host *change.Host, r change.Logger, id string, h hostconfig.Health, on hostconfig.ServicingType) error {
	checks := healthChecks(h, on)
	if len(checks) == 0 {
		return nil
	}
	results := make([]result, len(checks))
	err := host.Touch("check health", func() error {
		var all sync.WaitGroup
		for i, c := range checks {
			all.Go(func() { results[i] = checkOne(ctx, host, id, i, c, on) })
		}
		all.Wait()
		return ctx.Err()
	})
	if err != nil {
		return errkind.With(errkind.Cancelled, err)
	}
	var failed []string
	for _, res := range results {
		if res.err != nil {
			r.Logf(slog.LevelError, "health check %s failed", res.name) // the failure of the step says why
			failed = append(failed, fmt.Sprintf("%s: %v", res.name, res.err))
		} else {
			r.Logf(slog.LevelInfo, "health check %s passed", res.name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if err := host.Touch("write health log", func() error { return writeFailures(host, id, results) }); err != nil {
		r.Logf(slog.LevelWarn, "cannot write the log of the failed health checks: %v", err)
	}
	// Upstream's text: its tests search for the beginning.
	err = errkind.Errorf(errkind.Unhealthy, "Failed health check(s) during '%s': '%s' (%d of %d)", change.Camel(string(on)), strings.Join(failed, "; "), len(failed), len(checks))
	return errkind.WithName(err, errkind.NameHealthChecksFailed)
}

// HealthEffects returns the effects of a step that checks the health of a host.
func HealthEffects(h hostconfig.Health, on hostconfig.ServicingType) []change.Effect {
	var out change.Effects
	for i, c := range healthChecks(h, on) {
		name := ""
		switch {
		case c.Script != nil:
			name = c.Script.Name
		case c.Systemd != nil:
			name = c.Systemd.Name
		}
		out.Add("check-health", plainName(name, i), "check the health: %s; undo everything if that fails", Name(name, i))
	}
	return out
}

// result is the result of one check.
type result struct {
	name string
	err  error
	said []byte
}

func checkOne(ctx context.Context, host *change.Host, id string, i int, c hostconfig.HealthCheck, on hostconfig.ServicingType) result {
	if c.Script == nil {
		return result{name: Name(c.Systemd.Name, i), err: checkUnits(ctx, host, *c.Systemd)}
	}
	res := result{name: Name(c.Script.Name, i)}
	j := job{script: *c.Script, id: fmt.Sprintf("health-%d", i), limit: healthTime, on: on}
	if c.Script.Path != "" {
		// Not a staged copy: an extension of this update may have the script.
		j.file = change.Absolute(c.Script.Path)
	}
	if res.said, res.err = runScript(ctx, host, id, j); res.err != nil {
		res.err = scriptFailed(c.Script.Name, i, res.err)
	}
	return res
}

// checkUnits returns an error unless all units become active in time and stay active for
// the soak. A time of 0 checks once, without a soak.
func checkUnits(ctx context.Context, host *change.Host, c hostconfig.SystemdCheck) error {
	errs := make([]error, len(c.SystemdServices))
	var all sync.WaitGroup
	for i, name := range c.SystemdServices {
		all.Go(func() {
			limit := min(time.Duration(min(c.TimeoutSeconds, 1<<20))*time.Second, 24*time.Hour)
			errs[i] = checkUnit(ctx, host, unitName(name), limit)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func checkUnit(ctx context.Context, host *change.Host, unit string, limit time.Duration) error {
	first, err := untilActive(ctx, host, unit, limit)
	if err != nil || limit == 0 {
		return err
	}
	soak := host.Soak
	if soak == 0 {
		soak = defaultSoak
	}
	for end := time.Now().Add(soak); time.Now().Before(end); {
		if err := change.Sleep(ctx, unitPoll); err != nil {
			return err
		}
		u, err := host.Systemd.Unit(ctx, unit)
		switch {
		case errkind.Of(err) == errkind.Unavailable && err != nil: // systemd reexecutes itself
		case err != nil:
			return err
		case !isActive(u):
			return fmt.Errorf("%s was active, and then %s", unit, describe(u))
		case u.Invocation != first.Invocation || u.Restarts != first.Restarts:
			return fmt.Errorf("%s was active, and then it restarted", unit)
		}
	}
	return nil
}

// untilActive waits until a unit is active. The unit need not exist yet.
func untilActive(ctx context.Context, host *change.Host, unit string, limit time.Duration) (systemd.Unit, error) {
	end := time.Now().Add(limit)
	for {
		u, err := host.Systemd.Unit(ctx, unit)
		if err == nil && isActive(u) {
			return u, nil
		}
		if ctx.Err() != nil {
			return u, context.Cause(ctx)
		}
		if !time.Now().Before(end) {
			what := describe(u)
			switch {
			case errkind.Of(err) == errkind.NotFound && err != nil:
				what = "Unit " + unit + " could not be found" // what systemctl status says
			case err != nil:
				what = err.Error()
			}
			if limit == 0 {
				return u, fmt.Errorf("%s is not active: %s", unit, what)
			}
			return u, fmt.Errorf("%s is not active after %s: %s", unit, limit, what)
		}
		if err := change.Sleep(ctx, min(unitPoll, time.Until(end))); err != nil {
			return u, err
		}
	}
}

func isActive(u systemd.Unit) bool {
	return u.Active == "active" || u.Active == "reloading" || u.Active == "refreshing"
}

func describe(u systemd.Unit) string {
	text := fmt.Sprintf("%s (%s)", u.Active, u.Sub)
	if u.Result != "" && u.Result != "success" {
		text += ", result " + u.Result
	}
	return text
}

// unitName returns the unit that systemctl takes a name for: a service without a type.
func unitName(name string) string {
	name = strings.TrimSpace(name)
	types := []string{".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"}
	if slices.Contains(types, filepath.Ext(name)) {
		return name
	}
	return name + ".service"
}

// writeFailures writes a log of failed checks, with the output of their scripts, to the
// folder in which upstream's tools read it. It deletes the oldest logs beyond failuresKept.
func writeFailures(host *change.Host, id string, results []result) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "operation: %s\n", id)
	for _, res := range results {
		if res.err == nil {
			fmt.Fprintf(&b, "\nhealth check %s: passed\n", res.name)
			continue
		}
		fmt.Fprintf(&b, "\nhealth check %s: failed: %v\n", res.name, res.err)
		if len(res.said) > 0 {
			fmt.Fprintf(&b, "it said:\n%s\n", res.said)
		}
	}
	place := filepath.Join(host.Root, failurePlace)
	if err := os.MkdirAll(place, 0o700); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(place, failureName+"*.log"))
	slices.Sort(old)
	for _, path := range old[:max(0, len(old)+1-failuresKept)] {
		err = errors.Join(err, atomicfile.Remove(path))
	}
	name := failureName + time.Now().UTC().Format("20060102-150405") + ".log"
	return errors.Join(err, atomicfile.Write(filepath.Join(place, name), b.Bytes(), 0o600))
}
