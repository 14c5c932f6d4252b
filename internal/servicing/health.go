package servicing

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
	"github.com/trident-project/trident/internal/systemd"
)

// Figures of health checks.
const (
	defaultSoak  = 10 * time.Second
	unitPoll     = 250 * time.Millisecond
	failuresKept = 10
	failurePlace = "var/lib/trident"
	failureName  = "trident-health-check-failure-"
)

// checkHealth runs the health checks of a runtime update. Where a host is rolled
// back by command nothing is checked: what it was before is where it shall go, and
// there is nowhere else.
func (s *Service) checkHealth(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	if r.State.Back {
		return nil
	}
	return s.checkAll(ctx, r, r.ID, w.asked.Spec().Health, hostconfig.OnRuntimeUpdate)
}

// checkAll runs all health checks of a servicing side by side and reports every
// failure.
func (s *Service) checkAll(ctx context.Context, r teller, id string, h hostconfig.Health, on hostconfig.ServicingType) error {
	checks := healthChecks(h, on)
	if len(checks) == 0 {
		return nil
	}
	results := make([]result, len(checks))
	err := s.touch("check health", func() error {
		var all sync.WaitGroup
		for i, c := range checks {
			all.Go(func() { results[i] = s.checkOne(ctx, id, i, c, on) })
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
	if err := s.touch("write health log", func() error { return s.writeFailures(id, results) }); err != nil {
		r.Logf(slog.LevelWarn, "the log of the failure is not kept: %v", err)
	}
	// Upstream's text: its tests search for the beginning.
	err = errkind.Errorf(errkind.Unhealthy, "Failed health check(s) during '%s': '%s' (%d of %d)", camel(string(on)), strings.Join(failed, "; "), len(failed), len(checks))
	return errkind.WithName(err, errkind.NameHealthChecksFailed)
}

// result is what came of one check.
type result struct {
	name string
	err  error
	said []byte
}

func (s *Service) checkOne(ctx context.Context, id string, i int, c hostconfig.HealthCheck, on hostconfig.ServicingType) result {
	if c.Script == nil {
		return result{name: nameOf(c.Systemd.Name, i), err: s.checkUnits(ctx, *c.Systemd)}
	}
	res := result{name: nameOf(c.Script.Name, i)}
	j := job{script: *c.Script, id: fmt.Sprintf("health-%d", i), limit: healthTime, on: on}
	if c.Script.Path != "" {
		// Not a copy from before: an extension may have brought it.
		j.file = absolute(c.Script.Path)
	}
	if res.said, res.err = s.runScript(ctx, id, j); res.err != nil {
		res.err = scriptFailed(c.Script.Name, i, res.err)
	}
	return res
}

// checkUnits wants units to become active in time, and to stay so for the soak. A
// time of 0 looks once.
func (s *Service) checkUnits(ctx context.Context, c hostconfig.SystemdCheck) error {
	errs := make([]error, len(c.SystemdServices))
	var all sync.WaitGroup
	for i, name := range c.SystemdServices {
		all.Go(func() {
			limit := min(time.Duration(min(c.TimeoutSeconds, 1<<20))*time.Second, 24*time.Hour)
			errs[i] = s.checkUnit(ctx, unitName(name), limit)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *Service) checkUnit(ctx context.Context, unit string, limit time.Duration) error {
	first, err := s.untilActive(ctx, unit, limit)
	if err != nil || limit == 0 {
		return err
	}
	soak := s.Soak
	if soak == 0 {
		soak = defaultSoak
	}
	for end := time.Now().Add(soak); time.Now().Before(end); {
		if err := sleep(ctx, unitPoll); err != nil {
			return err
		}
		u, err := s.Systemd.Unit(ctx, unit)
		switch {
		case errkind.Of(err) == errkind.Unavailable && err != nil: // systemd executes itself anew
		case err != nil:
			return err
		case !isActive(u):
			return fmt.Errorf("%s was active, and then %s", unit, describe(u))
		case u.Invocation != first.Invocation || u.Restarts != first.Restarts:
			return fmt.Errorf("%s was active, and then it started anew", unit)
		}
	}
	return nil
}

// untilActive waits for a unit, which may come to be only now.
func (s *Service) untilActive(ctx context.Context, unit string, limit time.Duration) (systemd.Unit, error) {
	end := time.Now().Add(limit)
	for {
		u, err := s.Systemd.Unit(ctx, unit)
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
		if err := sleep(ctx, min(unitPoll, time.Until(end))); err != nil {
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

// unitName is what systemctl makes of a name: a service where no type is named.
func unitName(name string) string {
	name = strings.TrimSpace(name)
	types := []string{".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"}
	if slices.Contains(types, filepath.Ext(name)) {
		return name
	}
	return name + ".service"
}

// writeFailures keeps what may tell why the host was not healthy, where upstream's
// tools look for it. The oldest logs make room.
func (s *Service) writeFailures(id string, results []result) error {
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
	place := filepath.Join(s.Root, failurePlace)
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
