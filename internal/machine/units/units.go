// Package units lists, shows, starts, stops and restarts the units of a host, for callers who
// may be on another machine. On a host without systemd each call fails at once with
// Precondition.
//
// Such a caller must not cut itself off. So the package refuses a job that would stop
// tridentd, the way to it, or what systemd needs to work: it asks systemd which other units
// a job would stop through dependencies and conflicts, and under which other names.
package units

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// Bounds of a request and of an answer.
const (
	maxPatterns = 64
	maxName     = 255 // of a unit (systemd.unit(5))
	maxListed   = 4096
	// jobTime bounds a job: systemd itself gives up on most units after 90 seconds.
	jobTime = 5 * time.Minute
)

// Service handles the units of the host of Jobs.
type Service struct{ Jobs systemd.Jobs }

// List returns the loaded units that match one of patterns and one of states, sorted by name,
// and how many more there are. Empty patterns or states match all.
func (s *Service) List(ctx context.Context, patterns, states []string) (units []systemd.Listed, omitted int, err error) {
	for _, list := range [][]string{patterns, states} {
		if len(list) > maxPatterns {
			return nil, 0, errkind.Errorf(errkind.Invalid, "list units: %d patterns or states, %d are the most", len(list), maxPatterns)
		}
		for _, text := range list {
			if text == "" || len(text) > maxName || strings.ContainsFunc(text, isControl) {
				return nil, 0, errkind.Errorf(errkind.Invalid, "list units: %.64q is not a pattern or a state", text)
			}
		}
	}
	units, err = s.Jobs.List(ctx, patterns, states)
	if len(units) > maxListed {
		units, omitted = units[:maxListed], len(units)-maxListed
	}
	return units, omitted, systemd.OrAbsent(err)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Show returns a unit, and why Stop refuses it, or nil.
func (s *Service) Show(ctx context.Context, unit string) (d systemd.Details, protected error, err error) {
	if err := checkName("show", unit); err != nil {
		return systemd.Details{}, nil, err
	}
	if d, err = s.Jobs.Details(ctx, unit); err != nil {
		return systemd.Details{}, nil, systemd.OrAbsent(err)
	}
	protected = s.mayStop(ctx, systemd.StopJob, d, false)
	if kind := errkind.Of(protected); protected != nil && kind != errkind.Precondition && kind != errkind.TooLarge {
		return systemd.Details{}, nil, protected
	}
	return d, protected, nil
}

// Run runs a job for a unit, and returns when it has ended. With mayDisconnect it also stops or
// restarts a unit through which people reach the host. If the job would stop a protected unit,
// the error is of kind Precondition, names that unit, and nothing has changed.
func (s *Service) Run(ctx context.Context, job systemd.Job, unit string, mayDisconnect bool) error {
	if err := checkName(string(job), unit); err != nil {
		return err
	}
	d, err := s.Jobs.Details(ctx, unit)
	if err != nil {
		return systemd.OrAbsent(err)
	}
	if job == systemd.StartJob || job == systemd.RestartJob {
		if err := s.mayStart(ctx, job, d, mayDisconnect); err != nil {
			return err
		}
	}
	if job != systemd.StartJob {
		if err := s.mayStop(ctx, job, d, mayDisconnect); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	// By its main name, which is the one that was checked.
	return s.Jobs.Run(ctx, job, d.Name)
}

// checkName fails with Invalid for a name that is not the full name of a unit.
func checkName(doing, unit string) error {
	isOther := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:-_.\@`, r))
	}
	i := strings.LastIndexByte(unit, '.')
	kinds := []string{"service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"}
	switch {
	case unit == "" || len(unit) > maxName || strings.ContainsFunc(unit, isOther):
		return errkind.Errorf(errkind.Invalid, "%s %.64q: it is not the name of a unit", doing, unit)
	case i < 1 || !slices.Contains(kinds, unit[i+1:]):
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%s %s: the name does not end with the type of a unit", doing, unit),
			"give the full name, such as %s.service", unit)
	}
	return nil
}
